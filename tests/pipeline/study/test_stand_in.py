"""Models in the participants' place. Run: python -m pytest tests/pipeline/study/test_stand_in.py"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipeline.study.key import Key
from pipeline.study.stand_in import collect_stand_in
from pipeline.study.tasks import MEANING, PERSONALISATION
from tests.pipeline.study.made import StudyRun

GAINS = {"original": 0.0, "pmg": 0.2, "ragar": 0.6}


def score(method: str, case_id: str) -> dict[str, float | None]:
    """RAGAR's pictures are preferred and in the right style, PMG's show the right thing."""
    return {
        "delta_r_check": GAINS[method],
        "style_accuracy": float(method == "ragar"),
        "concept_accuracy": float(method == "pmg"),
        "concept_top5": 1.0,
        "cs": None if case_id == "case-00" else GAINS[method],
    }


def test_each_model_orders_by_its_own_scores_in_a_column_of_its_own(tmp_path: Path, key: Key):
    run = StudyRun(tmp_path)
    run.write_scores(score)
    found = collect_stand_in(run.run, key, seed=0)
    assert [(rater.name, rater.task) for rater, _ in found] == [
        ("evaluation ranker", PERSONALISATION),
        ("judge of styles", PERSONALISATION),
        ("judge of concepts", MEANING),
        ("CLIP of the metrics", MEANING),
    ]
    ranker, styles, concepts, clip = (votes for _, votes in found)
    assert ranker.methods == ("original", "pmg", "ragar")
    assert ranker.rank_PCM.tolist() == [[[3, 2, 1]] * 6]
    assert (styles.rank_PCM[0, :, 2] == 1).all()
    assert concepts.methods == ("pmg", "ragar")
    assert concepts.rank_PCM.tolist() == [[[1, 2]] * 6]
    assert clip.num_cases == 6 - ("case-00" in key.list_cases())


def test_ties_are_broken_by_lot_and_the_lot_by_the_seed(tmp_path: Path, key: Key):
    run = StudyRun(tmp_path)
    run.write_scores(lambda method, case_id: {"style_accuracy": float(method == "ragar")})
    seconds = []
    for seed in range(20):
        ((_, votes),) = collect_stand_in(run.run, key, seed=seed)
        assert np.array_equal(votes.rank_PCM, collect_stand_in(run.run, key, seed=seed)[0][1].rank_PCM)
        seconds += (votes.rank_PCM[0, :, 0] == 2).tolist()
    assert 40 < sum(seconds) < 80  # of 120 ties between original and pmg


def test_another_run_and_one_without_scores_of_the_studys_cases_are_sentences(tmp_path: Path, key: Key):
    run = StudyRun(tmp_path)
    run.write_scores(lambda method, case_id: {"delta_r_check": None})
    with pytest.raises(
        ValueError, match="the key is of the dataset pog, but the run in this folder is of stylemoji; its scores are of other pictures"
    ):
        collect_stand_in(run.run, dataclasses.replace(key, dataset="pog"), seed=0)
    with pytest.raises(ValueError, match="the run has no scores of the study's cases by all of original, pmg, ragar; finish a run with these params"):
        collect_stand_in(run.run, key, seed=0)
