"""The config group `method`: our readings of the paper and the printed ones. Run: python -m pytest tests/pipeline/test_method.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.compose import compose_params
from pipeline.conditioning.config import CalibratorConfig, MapperConfig
from pipeline.embedding import EmbeddingConfig
from pipeline.keywords.preference import PreferenceConfig
from pipeline.params import BLOCKS, load_params
from pipeline.ranker.config import RankerConfig
from pipeline.reflection.config import ReflectionConfig
from pipeline.retrieval.config import RetrievalConfig

CONF = Path(__file__).resolve().parents[2] / "conf"
PRINTED = {
    "embedding.semantic_text": "caption",  # eq. 2
    "retrieval.center": False,  # eq. 3
    "retrieval.normalisation": "sum",  # eq. 5
    "retrieval.temperature": 1.0,  # eq. 5
    "preference.keywords_from": "all",  # eq. 6
    "preference.global_from": "all",  # eq. 6
    "preference.reference_in_prompt": "none",  # eq. 6 to 9
    "preference.visual_tokens": 0,  # eq. 9
    "mapper.prompt": "caption",  # GILL
    "mapper.attention_steps": 0,  # none is mentioned
    "ranker.image_text_weight": 0.0,  # MICRO
    "calibrator.attention": "literal",  # eq. 9
    "calibrator.fusion": "concat",  # eq. 9
    "calibrator.init_scale": 10.0,  # without effect
    "reflection.trainable": "calibrator",  # the sentence before eq. 15
    "reflection.perturbed_rows": "all",  # eq. 12
    "reflection.policy": "literal",  # eq. 12
    "reflection.reward": "literal",  # eq. 11
    "reflection.margin": 0.1,  # eq. 11, no value given
    "reflection.standardise_scores": False,  # eq. 11
    "reflection.baseline": "none",  # eq. 12
    "reflection.calibration": "literal",  # eq. 13
    "reflection.semantic": "literal",  # eq. 14
    "reflection.retrieved_feature": "clip_image",  # eq. 13 needs the width of the generator's text
    "reflection.keep": "last",  # no validation
    "reflection.patience": 0,  # which could end it
}
CONFIGS = {
    "embedding": EmbeddingConfig,
    "retrieval": RetrievalConfig,
    "preference": PreferenceConfig,
    "mapper": MapperConfig,
    "ranker": RankerConfig,
    "calibrator": CalibratorConfig,
    "reflection": ReflectionConfig,
}


def flatten(block: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for name, value in block.items():
        pairs |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return pairs


def read_flat(path: Path) -> dict[str, Any]:
    return flatten({name: value for name, value in yaml.safe_load(path.read_text(encoding="utf-8")).items() if name != "defaults"})


def compose(folder: Path, *overrides: str) -> Path:
    compose_params(list(overrides), conf=CONF, out=folder / "params.yaml")
    return folder / "params.yaml"


def test_the_printed_method_makes_every_literal_choice_and_changes_nothing_else(tmp_path: Path) -> None:
    default, literal = read_flat(compose(tmp_path)), read_flat(compose(tmp_path, "method=literal"))
    assert {name: literal[name] for name in PRINTED} == PRINTED
    assert {name for name in default if default[name] != literal[name]} <= set(PRINTED)
    assert default.keys() == literal.keys()


def test_both_methods_name_the_same_choices() -> None:
    assert read_flat(CONF / "method" / "literal.yaml") == PRINTED
    assert read_flat(CONF / "method" / "default.yaml").keys() == PRINTED.keys()


@pytest.mark.parametrize("method", ["default", "literal"])
def test_every_choice_is_one_that_the_code_knows(method: str, tmp_path: Path) -> None:
    params = compose(tmp_path, f"method={method}")
    for section, config_class in CONFIGS.items():
        load_params(params, section, config_class)


def test_a_choice_can_be_changed_on_its_own_in_either_method(tmp_path: Path) -> None:
    assert read_flat(compose(tmp_path, "method=literal", "reflection.reward=hinge_cost"))["reflection.reward"] == "hinge_cost"
    assert read_flat(compose(tmp_path, "reflection.reward=literal"))["reflection.reward"] == "literal"


def test_a_reading_stands_in_the_method_group_alone() -> None:
    others = [path for path in CONF.rglob("*.yaml") if path.parent.name != "method"]
    for path in others:
        assert not read_flat(path).keys() & PRINTED.keys(), f"{path.name}: the group composed last would win in silence"


def test_the_profile_of_the_paper_composes_with_both_methods(tmp_path: Path) -> None:
    for method in ("default", "literal"):
        params = read_flat(compose(tmp_path, "models=paper", f"method={method}"))
        assert params["reflection.learning_rate"] == 0.00001
        assert params["reflection.reward"] == ("literal" if method == "literal" else "hinge_cost")


def test_the_blocks_of_the_composed_params_are_those_that_are_known(tmp_path: Path) -> None:
    assert set(yaml.safe_load(compose(tmp_path).read_text(encoding="utf-8"))) == set(BLOCKS)
