"""Which values each config takes, and that reading one loads no model library. Run: python -m pytest tests/pipeline/test_configs.py"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.compose import compose_params
from pipeline.params import build_config, read_document
from tests import configs
from tests.configs import REPO

SELECTION = asdict(configs.PMG.selection)
WRONG = [
    ("RUNTIME", {"num_threads": 0}, "num_threads is 0, but it must be >= 1"),
    ("RUNTIME", {"workers": -1}, "workers is -1, but it must be >= 0"),
    ("RUNTIME", {"device": "tpu"}, "device is 'tpu', but it must be 'auto', 'cpu' or 'cuda'"),
    ("CAPTIONING", {"num_beams": 0}, "num_beams is 0, but it must be >= 1"),
    ("CAPTIONING", {"prompt": 3}, "prompt is 3, but it must be a valid string"),
    ("EMBEDDING", {"batch_size": 0}, "batch_size is 0, but it must be >= 1"),
    ("RETRIEVAL", {"k": -1}, "k is -1, but it must be >= 0"),
    ("RETRIEVAL", {"temperature": 0.0}, "temperature is 0.0, but it must be > 0"),
    ("RETRIEVAL", {"temperature": float("inf")}, "temperature is inf, but it must be a finite number"),
    ("KEYWORDS", {"max_rejected_fraction": 1.5}, "max_rejected_fraction is 1.5, but it must be <= 1"),
    ("PREFERENCE", {"min_keywords": 11}, "min_keywords is 11, but it must be at most num_keywords (10)"),
    ("RANKER", {"epochs": 0}, "epochs is 0, but it must be >= 1"),
    ("RANKER", {"patience": -1}, "patience is -1, but it must be >= 0"),
    ("RANKER", {"original_weight": -0.1}, "original_weight is -0.1, but it must be >= 0"),
    ("RANKER", {"image_text_weight": float("nan")}, "image_text_weight is nan, but it must be a finite number"),
    ("CALIBRATOR", {"init_scale": 0}, "init_scale is 0, but it must be > 0"),
    ("MAPPER", {"img_batch_size": 0}, "img_batch_size is 0, but it must be >= 1"),
    ("MAPPER", {"max_captions": 2}, "max_captions (2) must be larger than held_out_captions (2)"),
    ("REFLECTION", {"sigma": 0.0}, "sigma is 0.0, but it must be > 0"),
    ("REFLECTION", {"num_perturbations": 1}, "baseline is 'mean' with num_perturbations 1"),
    ("SD", {"lora_rank": -1}, "lora_rank is -1, but it must be >= 0"),
    ("SD", {"learning_rate": 0.0}, "learning_rate is 0.0, but it must be > 0"),
    ("TI", {"num_steps": 0}, "num_steps is 0, but it must be >= 1"),
    ("TI", {"template": "{text}"}, "template is '{text}', but it must hold {style}"),
    ("PMG", {"clip_norm": 0.0}, "clip_norm is 0.0, but it must be > 0"),
    ("PMG", {"selection": {**asdict(configs.PMG.selection), "alpha": 1.5}}, "selection.alpha is 1.5, but it must be <= 1"),
    (
        "PMG",
        {"selection": {**asdict(configs.PMG.selection), "style_weights": ()}},
        "selection.style_weights is [], but it must be a list of 1 or more",
    ),
    ("PMG", {"selection": {**asdict(configs.PMG.selection), "style_weights": (1, 0)}}, "selection.style_weights[1] is 0, but it must be >= 1"),
    ("GENERATION", {"splits": ("dev",)}, "splits[0] is 'dev', but it must be 'train', 'val' or 'test'"),
    ("GENERATION", {"splits": ()}, "splits is [], but it must be a list of 1 or more"),
    ("EVALUATION", {"image_size": 8}, "image_size is 8, but it must be >= 11"),
    ("EVALUATION", {"level": 95}, "level is 95, but it must be < 1"),
    ("STYLEMOJI", {"noise": 1}, "noise is 1, but it must be < 1"),
    ("STYLEMOJI", {"image_size": 1000}, "image_size is 1000, but it must be <= 512"),
    ("ARTMOJI", {"families": ("noto", "apple")}, "families has 'apple', but it may hold only: noto, noto-v1"),
    ("ARTMOJI", {"reference_family": "apple"}, "reference_family is 'apple', but it must be one of the families: noto"),
    ("ARTMOJI", {"held_out_family": "apple"}, "held_out_family is 'apple', but it must be null or one of the families: noto"),
    ("ARTMOJI", {"held_out_family": "noto"}, "held_out_family is 'noto', but that is the reference_family"),
    ("ARTMOJI", {"cells": "groups"}, "cells is 'groups', but it must be 'subgroups', 'merged', 'category' or 'one'"),
    ("ARTMOJI", {"relevant": (4, 2)}, "relevant is [4, 2], but it must be two numbers, the least and the most"),
    ("ARTMOJI", {"relevant": (2,)}, "relevant is [2], but it must be two numbers"),
    ("ARTMOJI", {"noise": (0.2, 1.5)}, "noise[1] is 1.5, but it must be <= 1"),
    ("ARTMOJI", {"noise": (0.5, 0.75)}, "relevant (4) and noise (0.75 of history_length) may be more items than history_length, 8"),
    ("ARTMOJI", {"image_size": 128}, "image_size is 128, but it must be <= 64"),
    ("FOLDER", {"splits": (0.5, 0.5)}, "splits is [0.5, 0.5], but it must be 3 shares"),
    ("FOLDER", {"min_history": 7}, "min_history is 7, but it must be at most history_length, 6"),
    ("ML_LATEST", {"num_people": 0}, "num_people is 0, but it must be >= 1"),
    ("POG", {"num_users": 2}, "num_users is 2, but it must be >= 3"),
    ("SER30K", {"stickers_per_theme": 3}, "two themes must fill history_length, 7"),
    ("SER30K", {"emotions": ("joy",)}, "emotions has 1 names, but it must have 7, or none"),
    ("PIGEON", {"image_format": "gif"}, "image_format is 'gif', but it must be 'png' or 'jpeg'"),
]


@pytest.mark.parametrize(("name", "change", "sentence"), WRONG, ids=[f"{name}-{next(iter(change))}" for name, change, _ in WRONG])
def test_a_value_out_of_range_gets_one_sentence_and_is_refused_in_code_too(name: str, change: dict[str, Any], sentence: str) -> None:
    config = getattr(configs, name)
    with pytest.raises(ValueError, match="^params.yaml: block") as error:
        build_config({**asdict(config), **change}, type(config), where="params.yaml: block")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    if "selection" not in change:
        with pytest.raises(ValueError, match=next(iter(change))):
            replace(config, **change)


def test_reading_params_loads_no_model_library() -> None:
    paths = list((REPO / "pipeline").rglob("config.py"))
    assert len(paths) >= 10
    names = sorted(path.relative_to(REPO).with_suffix("").as_posix().replace("/", ".") for path in paths)
    modules = [*names, "pipeline.captioning", "pipeline.embedding", "pipeline.keywords.extract", "pipeline.keywords.preference", "pipeline.runtime"]
    code = f"import sys, {', '.join(modules)}\nprint(sorted({{'torch', 'transformers', 'diffusers', 'timm'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("overrides", "splits"),
    [
        (["dataset=folder"], ["train", "val", "test"]),
        (["dataset=folder", "generation.splits=[test]"], ["test"]),
        (["dataset=folder", "models=paper"], ["train", "val", "test"]),
        ([], ["test"]),
    ],
)
def test_everybody_of_a_catalogue_of_ones_own_gets_a_picture_and_test_users_are_measured(
    overrides: list[str], splits: list[str], tmp_path: Path
) -> None:
    compose_params(overrides, conf=REPO / "conf", out=tmp_path / "params.yaml")
    params = read_document(tmp_path / "params.yaml")
    assert (params["generation"]["splits"], params["evaluation"]["split"]) == (splits, "test")
