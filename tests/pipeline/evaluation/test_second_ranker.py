"""The second ranker's columns. Run: python -m pytest tests/pipeline/evaluation/test_second_ranker.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.evaluation.run import ROLES, RankerPaths, read_names
from pipeline.evaluation.scoring import SecondRanker, build_check_columns, build_rank_columns
from tests.pipeline.evaluation.conftest import METRICS, make_models, pick, run


class TasteForLight:
    """An encoder and a ranker of its own opinion: it knows one user, and light images rank 2 instead of 8."""

    def __init__(self):
        self.user_index, self.item_index, self.excluded = {"u0": 0}, {"i0": 0}, []

    def encode_images(self, images):
        return torch.tensor([[float(np.asarray(image).mean())] for image in images])

    def rank_original(self, user_ids, reference_ids, *, exclude):
        self.excluded = exclude
        return torch.full((len(user_ids),), 8)

    def rank_substituted(self, user_ids, reference_ids, features_BD, *, exclude):
        assert exclude == self.excluded
        return torch.where(features_BD[:, 0] > 128, 2, 8)


def test_the_second_ranker_speaks_for_itself_and_masks_the_same_history(world):
    check = TasteForLight()
    scores, *_ = run(world, models=make_models(check=SecondRanker(check, check)))
    truth, original = pick(scores, "truth", "k0"), pick(scores, "original", "k0")  # a dark and a light image
    assert truth["delta_r"] == pytest.approx((5 - 1) / (1 + 5))
    assert truth["delta_r_check"] == 0
    assert original["delta_r_check"] == pytest.approx((8 - 2) / (1 + 8))
    assert original["log2_rank_gain_check"] == pytest.approx(2.0)
    assert (original["rank_original_check"], original["rank_generated_check"]) == (8.0, 2.0)
    assert check.excluded == [["i2", "i3", "i4", "i5"]]
    assert pick(scores, "truth", "k1")["delta_r_check"] is None  # a user that only the first ranker knows
    assert pick(scores, "truth", "k1")["delta_r"] is not None


def test_without_a_second_ranker_its_columns_are_left_out(world):
    assert not [name for name in run(world)[0].column_names if name.endswith("_check")]


def test_every_column_that_is_scored_is_defined():
    one = torch.tensor([1])
    assert {*build_rank_columns(one, one, one), *build_check_columns(one, one)} <= {metric.name for metric in METRICS}


def test_another_second_ranker_makes_finished_scores_invalid(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    digests = [RankerPaths(tmp_path / "a", check).list_digests() for check in (None, tmp_path / "a", tmp_path / "b")]
    assert len({tuple(digest) for digest in digests}) == 3


@pytest.mark.parametrize(
    ("judge", "data_set", "found"),
    [
        ({"stylemoji": "j"}, "stylemoji", "j"),
        ({"stylemoji": "j", "artmoji": None}, "artmoji", None),
        ({"stylemoji": "j"}, "pog", None),
        (None, "x", None),
    ],
)
def test_every_data_set_has_its_own_judge_or_none(judge: object, data_set: str, found: str | None, tmp_path: Path) -> None:
    models = dict.fromkeys(("profile", "dtype", "metric_clip", "clip", "visual", "check_visual", "perceptual"), "m")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"dataset": {"name": data_set}, "models": {**models, "judge": judge}}))
    assert read_names(tmp_path / "params.yaml").judge == found


def test_one_judge_for_everything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"models": dict.fromkeys(("profile", "dtype", *ROLES), "m")}))
    with pytest.raises(ValueError, match=r"models\.judge is 'm', but it must be null or name a judge by data set"):
        read_names(tmp_path / "params.yaml")
