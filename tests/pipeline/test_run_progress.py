"""Where a stage stands in its run. Run: python -m pytest tests/pipeline/test_run_progress.py"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from pipeline import run_progress
from pipeline.run_progress import (
    GUESS,
    Current,
    Standing,
    begin_stage,
    choose_targets,
    end_stage,
    find_dvc,
    list_run,
    note_ran,
    read_stages,
    read_times,
    write_duration,
)
from pipeline.runtime import estimate_left, progress
from tests.toy_project import REPO, ToyProject

TRAINED = ["ti@ti_retrieved", "pmg@pmg_retrieved"]  # what depends on the retrieved items
DRAWN = [f"generation@{method}" for method in ("keywords", "retrieved", "ti_retrieved", "pmg_retrieved", "global", "ragar")]
PARAMS = "models: {profile: embedded}\ndataset: {name: stylemoji, raw: x}\n"


@pytest.fixture(autouse=True)
def _no_stage() -> None:
    Current.standing = None


def test_the_stages_stand_in_an_order_in_which_each_comes_after_what_it_reads() -> None:
    stages = read_stages(REPO)
    places = {name: place for place, name in enumerate(stages)}
    assert all(places[other] < places[name] for name, reads in stages.items() for other in reads)
    assert stages["generation@ragar"] == {"dataset", "look", "preference", "reflection"}
    assert stages["dataset"] == stages["code"] == set()


def test_a_run_is_what_has_run_and_what_depends_on_it() -> None:
    stages = read_stages(REPO)
    everything = list(stages)
    assert list_run(stages, ["dataset"], everything) == everything[1:]
    assert list_run(stages, ["retrieval"], everything) == ["retrieval", "preference", "reflection", *TRAINED, *DRAWN, "evaluation", "report"]
    assert list_run(stages, ["report"], everything) == ["report"]
    assert list_run(stages, ["dataset"], ["preference"]) == ["dataset", "captioning", "embedding", "retrieval", "keywords", "look", "preference"]
    assert list_run(stages, ["captioning", "ranker"], ["ranker"]) == ["captioning", "embedding", "ranker"]


def test_the_command_line_names_the_targets() -> None:
    stages = {"a": set(), "b@1": {"a"}, "b@2": {"a"}}
    assert choose_targets(stages, ["python", "dvc", "repro", "b"]) == ["b@1", "b@2"]
    assert choose_targets(stages, ["dvc", "exp", "run", "-S", "a=1", "b@2"]) == ["b@2"]
    assert choose_targets(stages, ["dvc", "repro"]) == ["a", "b@1", "b@2"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "10 s"), (42, "40 s"), (59, "60 s"), (61, "1 min"), (930, "16 min"), (3599, "1 h 00 min"), (7800, "2 h 10 min")]
)
def test_durations_are_as_exact_as_they_are_known(seconds: float, words: str) -> None:
    assert write_duration(seconds) == words


def start(monkeypatch: pytest.MonkeyPatch, root: Path, stage: str, params: str = PARAMS, words: tuple[str, ...] = ("dvc", "repro")) -> str | None:
    """Begin a stage as DVC would, under a DVC process that is this one."""
    (root / "params.yaml").write_text(params)
    if not (root / "dvc.yaml").exists():
        (root / "dvc.yaml").write_text((REPO / "dvc.yaml").read_text())
    monkeypatch.setenv("DVC_STAGE", stage)
    monkeypatch.setattr(run_progress, "find_dvc", lambda _: (os.getpid(), list(words)))
    return begin_stage(root)


def test_the_first_line_says_place_and_time_left_and_that_it_is_a_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start(monkeypatch, tmp_path, "code") is None
    # 115 of reflection, 55 + 5 + 60 + 72 and twice 5 of what is drawn, 55, 5 and four times 5 before it
    assert start(monkeypatch, tmp_path, "retrieval") == f"stage 1 of 13: retrieval; about 7 min left in all ({GUESS})"
    assert start(monkeypatch, tmp_path, "reflection") == f"stage 3 of 13: reflection; about 6 min left in all ({GUESS})"
    assert start(monkeypatch, tmp_path, "report") == f"stage 13 of 13: report; about 10 s left in all ({GUESS})"


def test_measured_seconds_take_the_place_of_the_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, tmp_path, "evaluation")
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 300)
    end_stage()
    start(monkeypatch, tmp_path, "report")
    end_stage()
    assert {name: len(seconds) for name, seconds in read_times()["embedded stylemoji x"].items()} == {"evaluation": 1, "report": 1}
    assert start(monkeypatch, tmp_path, "evaluation") == "stage 1 of 2: evaluation; about 5 min left in all (as long as it took before)"


def test_of_the_last_three_times_the_longest_counts() -> None:
    assert run_progress.estimate("report", {"report": [2.0, 90.0, 1.0]}) == 90.0
    assert run_progress.estimate("mapper", {}) == 210


def test_other_models_that_have_not_run_yet_have_a_place_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = PARAMS.replace("embedded", "paper")
    assert start(monkeypatch, tmp_path, "evaluation", other) == "stage 1 of 2: evaluation"
    for stage in ("evaluation", "report"):
        start(monkeypatch, tmp_path, stage, other)
        end_stage()
    assert start(monkeypatch, tmp_path, "evaluation", other) == "stage 1 of 2: evaluation; about 10 s left in all (as long as it took before)"


def test_a_target_leaves_the_stages_behind_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start(monkeypatch, tmp_path, "retrieval", words=("dvc", "repro", "preference")).startswith("stage 1 of 2: retrieval; ")


@pytest.mark.parametrize("params", ["", "models: 1\ndataset: [x]\n"])
def test_params_that_the_stage_will_refuse_are_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: str) -> None:
    assert start(monkeypatch, tmp_path, "report", params) == "stage 1 of 1: report"


def test_damaged_notes_are_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".work").mkdir()
    for text in ("[", "[1]", '{"a": [1]}', '{"a": {"b": ["x"]}}'):
        (tmp_path / ".work" / "stage_seconds.json").write_text(text)
        assert read_times() == {}
    assert start(monkeypatch, tmp_path, "report").endswith(f"({GUESS})")


def test_notes_of_runs_that_are_gone_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / ".work" / "runs"
    folder.mkdir(parents=True)
    (folder / f"{os.getpid()}-1").write_text("old")
    assert note_ran("a", os.getpid()) == ["a"]
    assert note_ran("b", os.getpid()) == ["a", "b"]
    assert len(list(folder.iterdir())) == 1


def test_outside_of_dvc_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert begin_stage(REPO) is None
    monkeypatch.setattr("pipeline.runtime.LOG_SECONDS", 0.0)
    list(progress(range(2), label="x", total=2))
    assert "stage" not in capfd.readouterr().err


def test_progress_lines_say_what_is_left_in_all(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pipeline.runtime.LOG_SECONDS", 0.0)
    Current.standing = Standing("b", 2, 5, own=100.0, later=500.0, is_guess=True, key="x", started=time.monotonic())
    list(progress(range(3), label="rows", total=3))
    line = capfd.readouterr().err.splitlines()[0]
    assert re.fullmatch(r"rows: 1/3, .*/s, 0 s left; stage 2 of 5, about 10 min left in all \(a guess\)", line)
    assert Current.standing.describe_left(700.0) == "stage 2 of 5, about 20 min left in all (a guess)", "the loop at work knows better"
    assert (estimate_left(5, 20, 10.0), estimate_left(0, 20, 10.0), estimate_left(5, None, 10.0)) == (30.0, None, None)


@pytest.mark.parametrize("command", [("dvc", "repro"), ("python", "-m", "pipeline.dvc_command", "repro")])
def test_stages_that_dvc_starts_count_up(tmp_path: Path, command: tuple[str, ...]) -> None:
    project = ToyProject(tmp_path / "project")
    said = project.run(*command)
    places = re.findall(r"^stage (\d of \d: [\w@]+)$", said, re.MULTILINE)
    assert places == ["1 of 4: make", "2 of 4: add@1", "3 of 4: add@2", "4 of 4: join"]
    (project.root / "params.yaml").write_text("rate: 2\n")
    assert re.findall(r"^stage (.*)$", project.run(*command), re.MULTILINE) == ["1 of 1: join; about 10 s left in all (as long as it took before)"]
    times = json.loads((project.root / ".work" / "stage_seconds.json").read_text())["None None None"]
    assert {name: len(seconds) for name, seconds in times.items()} == {"make": 1, "add@1": 1, "add@2": 1, "join": 2}
    assert find_dvc(os.getpid()) is None
