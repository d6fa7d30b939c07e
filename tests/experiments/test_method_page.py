"""docs/method.md says what the code does. Run: python -m pytest tests/experiments/test_method_page.py -q"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.plan import compose_run
from experiments.runs import DEFAULT, Run
from pipeline.conditioning.config import CalibratorConfig
from pipeline.embedding import EmbeddingConfig
from pipeline.evaluation.config import EvaluationConfig
from pipeline.keywords.preference import PreferenceConfig
from pipeline.params import build_config
from pipeline.reflection.config import ReflectionConfig
from pipeline.retrieval.config import RetrievalConfig

REPO = Path(__file__).resolve().parents[2]
PAGE = (REPO / "docs" / "method.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
PARAM = re.compile(r"`([a-z_]+\.[a-z_0-9]+=[^`]+)`")
DEFAULTS = sorted({param for row in ROWS for param in PARAM.findall(row[2])})
OTHERS = sorted({param for row in ROWS for param in PARAM.findall(row[3])})
PRINTED = sorted(set(re.findall(r"\*\*printed\*\* `([^`]+)`", PAGE)))
TOGETHER = {"preference.visual_tokens=4": ("models=artists",)}  # what a reading cannot do without
LITERAL = yaml.safe_load((REPO / "conf" / "method" / "literal.yaml").read_text(encoding="utf-8"))
BLOCKS = {
    "embedding": EmbeddingConfig,
    "retrieval": RetrievalConfig,
    "preference": PreferenceConfig,
    "calibrator": CalibratorConfig,
    "reflection": ReflectionConfig,
    "evaluation": EvaluationConfig,
}


@cache
def compose(*overrides: str) -> dict[str, Any]:
    return compose_run(Run("page", overrides) if overrides else DEFAULT, REPO)


def look_up(params: dict[str, Any], param: str) -> tuple[Any, Any]:
    """Return the value in `params` and the value that the page states."""
    name, value = param.split("=", 1)
    block, key = name.split(".")
    return params[block][key], yaml.safe_load(value)


@pytest.mark.parametrize("param", DEFAULTS)
def test_a_stated_default_is_the_default(param: str) -> None:
    found, stated = look_up(compose(), param)
    assert found == stated


@pytest.mark.parametrize("param", OTHERS)
def test_another_reading_can_be_selected_and_is_not_the_default(param: str) -> None:
    composed = compose(param, *TOGETHER.get(param, ()))
    found, stated = look_up(composed, param)
    assert found == stated != look_up(compose(), param)[0]
    block = param.split(".")[0]
    if block in BLOCKS:
        build_config(composed[block], BLOCKS[block], where=param)


@pytest.mark.parametrize("param", PRINTED)
def test_a_printed_reading_is_the_literal_methods(param: str) -> None:
    found, stated = look_up(LITERAL, param)
    assert found == stated


def test_every_choice_that_the_literal_method_changes_is_on_the_page() -> None:
    for block, keys in LITERAL.items():
        for key, value in keys.items():
            assert f"`{block}.{key}=" in PAGE, f"{block}.{key}"
            if compose()[block][key] != value:
                assert f"{block}.{key}={str(value).lower()}" in PRINTED, f"{block}.{key}"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:pipeline|stages|experiments)/[a-z_/0-9]+\.py)`", PAGE))))
def test_the_code_is_where_the_page_says(path: str) -> None:
    assert (REPO / path).is_file()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_[a-z_0-9]+)`", PAGE))))
def test_a_test_that_the_page_cites_exists(name: str) -> None:
    assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in (REPO / "tests").rglob("test_*.py"))


def test_every_row_has_its_six_cells() -> None:
    assert len(ROWS) > 40
    assert {len(row) for row in ROWS} == {6}
