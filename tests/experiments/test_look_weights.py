"""Whose pictures count, by temperature and consensus. Run: python -m pytest tests/experiments/test_look_weights.py"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml

from experiments.look_weights import CONSENSUS, TEMPERATURES, LabelledHistory, build_page, list_histories, list_rows, measure
from tests.configs import PARAMS

HISTORY = LabelledHistory("train", torch.tensor([1.0, 0.5, 0.0]), torch.eye(3), ["neon", "sepia", "sepia"], "neon")


def test_the_share_is_the_weight_on_the_truths_style() -> None:
    weights = [math.exp(value / 0.5) for value in (1.0, 0.5, 0.0)]
    share, first = measure([HISTORY], temperature=0.5, consensus=0.0)
    assert share == pytest.approx(weights[0] / sum(weights), rel=1e-5)
    assert first == 1.0


def test_a_style_that_weighs_as_much_or_more_takes_the_first_place() -> None:
    assert measure([HISTORY], temperature=100.0, consensus=0.0)[1] == 0.0  # two pictures against one
    even = LabelledHistory("train", torch.tensor([0.5, 0.5]), torch.eye(2), ["neon", "sepia"], "neon")
    assert measure([even], temperature=1.0, consensus=0.0) == (pytest.approx(0.5), 0.0)
    absent = LabelledHistory("train", torch.tensor([0.5]), torch.eye(1), ["sepia"], "neon")
    assert measure([absent], temperature=1.0, consensus=0.0) == (0.0, 0.0)


def test_every_setting_is_measured_for_both_groups_of_users() -> None:
    test_user = LabelledHistory("test", torch.tensor([0.0, 1.0]), torch.eye(2), ["neon", "sepia"], "neon")
    rows = list(list_rows([HISTORY, test_user]))
    assert len(rows) == len(TEMPERATURES) * len(CONSENSUS) * 2
    assert {(row["users"], row["n"]) for row in rows} == {("train and val", 1), ("test", 1)}
    page = build_page(rows)
    assert page.count("\n| 0.03 |") == 2
    assert page.index("train and val") < page.index("Users: test")
    assert len(list(list_rows([HISTORY]))) == len(TEMPERATURES) * len(CONSENSUS)


def test_a_run_without_look_tokens_has_nothing_to_measure(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    with pytest.raises(ValueError, match="visual_tokens is 0"):
        list_histories(tmp_path, tmp_path / "params.yaml")
