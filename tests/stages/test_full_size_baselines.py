"""SD, TI and PMG on a Stable Diffusion 1.5 of full size with random weights: shapes, number format, memory. No download.

Run: `python -m pytest tests/stages/test_full_size_baselines.py -m full_size`, or `-m gpu` on a GPU. A CPU needs some minutes and 10 GB of memory.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import get_matrix, read_provenance, read_table
from pipeline.baselines.pmg import keywords
from pipeline.cost import find_cost
from pipeline.data.images import decode_image
from pipeline.schemas import GENERATED, KEYWORDS, PMG_PREFERENCES, PSEUDO_WORDS
from stages import pmg, ti
from tests.configs import PMG, TI
from tests.full_models import IMAGE_SIZE, NUM_UNET_PARAMETERS, TOKEN_DIM, build_unet, save_full_stable_diffusion
from tests.stages.drawing_project import ITEM_IDS, Project, save_models

MAX_MEMORY_MB = {"cpu": 10_000, "cuda": 10_000}
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
needs_memory = pytest.mark.skipif(MEMORY < 12e9, reason=f"a full model's training needs 10 GB of memory, this machine has {MEMORY / 1e9:.0f}")
DEVICES = [pytest.param("cpu", marks=[pytest.mark.full_size, needs_memory]), pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("models")
    yield {**save_models(folder), "dtype": "float16", "diffusion": str(save_full_stable_diffusion(folder / "sd15"))}
    shutil.rmtree(folder)  # 2 GB


def test_the_layout_is_that_of_the_published_model() -> None:
    import torch

    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build_unet().parameters()) == NUM_UNET_PARAMETERS


@pytest.mark.parametrize("device", DEVICES)
def test_each_method_runs_on_a_full_stable_diffusion(device: str, tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keywords, "generate", lambda _, questions, config: ["red, loud" for _ in questions])
    project = Project(tmp_path, models)
    project.params["runtime"] |= {"device": device, "num_threads": os.cpu_count() or 1}
    project.params["generation"] |= {"steps": 1, "batch_size": 1}
    project.params["ti"] = asdict(replace(TI, num_steps=1, users_per_batch=1, images_per_step=1, noises_per_image=1, held_out_draws=1))
    single = replace(PMG.selection, style_weights=(1,), num_images=1)
    small = {"num_steps": 1, "batch_cases": 1, "images_per_case": 1, "noises_per_image": 1, "validation_cases": 1, "train_cases": 1}
    project.params["pmg"] = asdict(replace(PMG, selection=single, **small))
    project.limit_cases({"c00", "c04", "c06"})  # one of each split
    project.write_table(KEYWORDS, [{"item_id": item_id, "keywords": ["red"]} for item_id in ITEM_IDS])

    names = {name: f"{name}.parquet" for name in ("cases", "items", "captions")}
    project.run(ti, **names, out="trained-ti")
    vectors = read_table(tmp_path / "trained-ti" / "vectors.parquet", PSEUDO_WORDS)
    assert get_matrix(vectors, "vectors").shape == (1, TOKEN_DIM)
    project.run(pmg, **names, keywords="keywords.parquet", out="trained-pmg")
    preferences = read_table(tmp_path / "trained-pmg" / "preferences.parquet", PMG_PREFERENCES)
    assert get_matrix(preferences, "soft").shape == (1, PMG.num_soft * TOKEN_DIM)
    trained_in = "torch.float32" if device == "cpu" else "torch.bfloat16"
    assert read_provenance(tmp_path / "trained-ti" / "vectors.parquet")["diffusion"].endswith(trained_in)

    needs = {"sd": {}, "ti": {"vectors": "trained-ti/vectors.parquet"}, "pmg": {"pmg_preferences": "trained-pmg/preferences.parquet"}}
    for method, files in needs.items():
        project.generate(method, **files)
        image = read_table(tmp_path / method / "generated.parquet", GENERATED)["image"].to_pylist()[0]
        assert decode_image(image["bytes"]).size == (IMAGE_SIZE, IMAGE_SIZE)
    made = ["trained-ti/vectors.parquet", "trained-pmg/soft.safetensors", *(f"{method}/generated.parquet" for method in needs)]
    for path in made:
        assert 2_000 < find_cost(tmp_path / path)["peak_memory_mb"] < MAX_MEMORY_MB[device], path
