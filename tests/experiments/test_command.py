"""The command line from plans to written pages, with DVC replaced. Run: python -m pytest tests/experiments/test_command.py -q"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from experiments import __main__ as command
from experiments import records
from experiments.catalogue import EXPERIMENTS, get_experiment
from experiments.entry import run_app
from experiments.plan import Inputs, Plan
from experiments.plots import draw_experiment, list_panels
from experiments.results import RunResult
from experiments.runs import DEFAULT, Run
from experiments.store import Stored
from pipeline.endings import Stopped
from tests.experiments.made import SAME_AS_DEFAULT, SAME_AS_OTHERS, good, make_evidence
from tests.toy_project import REPO

RESULTS = make_evidence(good, num_users=10).results


class Project:
    """A repository whose runs take no time: `failing` ones end with exit code 1, `interrupted` ones with Ctrl-C."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.stored: dict[str, Stored] = {}
        self.executed: list[str] = []
        self.failing: set[str] = set()
        self.interrupted: set[str] = set()
        (root / "conf").mkdir()
        (root / "dvc.yaml").write_text("stages: {}")
        monkeypatch.chdir(root)
        monkeypatch.setattr(command, "read_inputs", lambda root: Inputs({}, (), {}, {}, (), frozenset()))
        monkeypatch.setattr(command, "plan_runs", lambda runs, inputs, root: [self.plan(run) for run in runs])
        monkeypatch.setattr(command, "has_changes", lambda root: False)
        monkeypatch.setattr(command, "execute_plan", self.execute)
        monkeypatch.setattr(records, "list_stored", lambda root: self.stored)
        monkeypatch.setattr(records, "open_experiment", lambda stored, root: contextlib.nullcontext())
        monkeypatch.setattr(records, "read_result", self.read)
        monkeypatch.setattr(command, "draw_experiment", lambda *args, **options: repr(list_panels(*args, **options)))  # quick

    @staticmethod
    def plan(run: Run) -> Plan:
        shared = DEFAULT.name if run.name in SAME_AS_DEFAULT else SAME_AS_OTHERS.get(run.name, run.name)
        return Plan(run, hashlib.sha256(shared.encode()).hexdigest()[:10], ("data/extra/cat.png",))

    def execute(self, plan: Plan, *, root: Path) -> int:
        assert (root, plan.copies) == (self.root, ("data/extra/cat.png",))
        if plan.run.name in self.interrupted:
            raise Stopped(130)
        self.executed.append(plan.run.name)
        if plan.run.name in self.failing:
            return 1
        self.stored[plan.fingerprint] = Stored(plan.experiment, "0" * 40)
        return 0

    @staticmethod
    def read(experiment: str, fetch: None) -> RunResult:
        return dataclasses.replace(RESULTS[records.get_run(experiment).removeprefix("ragar-")], experiment=experiment)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(command.app, list(arguments))

    def read_outputs(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.root / "docs" / "results").glob("*.*"))}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


def test_an_experiment_runs_its_runs_and_writes_three_files(project: Project) -> None:
    outcome = project.run("fig2")
    assert outcome.exit_code == 0, outcome.output
    assert project.executed == ["default", "exp-ret", "random"]
    assert "[3/3] random: done in 0 s" in outcome.output
    assert list(project.read_outputs()) == ["fig2.csv", "fig2.md", "fig2.svg"]


def test_plots_are_drawn_again_from_the_csv_files(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "draw_experiment", draw_experiment)
    project.run("fig2")
    (project.root / "docs" / "results" / "table1.csv").write_text("a comparison, which has no plot")
    project.executed = []
    outputs = project.read_outputs()
    plot = project.root / "docs" / "results" / "fig2.svg"
    assert outputs[plot.name].startswith(b"<?xml")
    plot.unlink()
    outcome = project.run("--plots-only")
    assert outcome.output == "fig2: drawn from fig2.csv\n"
    assert (project.executed, project.read_outputs().keys()) == ([], outputs.keys())
    assert re.sub(r"\d+\.\d+", "", plot.read_text()) == re.sub(r"\d+\.\d+", "", outputs[plot.name].decode())  # the CSV has six digits
    plot.with_suffix(".csv").write_text(plot.with_suffix(".csv").read_text().replace("style_accuracy", "nonsense"))
    assert "is not the table that `make fig2` writes ('nonsense')" in str(project.run("--plots-only", "fig2").exception)


def test_table_1_is_printed_and_written_as_page_csv_and_latex(project: Project) -> None:
    outcome = project.run("table1")
    assert outcome.exit_code == 0, outcome.output
    assert project.executed == ["table1"]
    assert list(project.read_outputs()) == ["table1.csv", "table1.md", "table1.tex"]
    assert project.read_outputs()["table1.md"].decode() in outcome.output


def test_another_setting_overrides_every_run_and_is_written_to_a_folder_of_its_own(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[Run] = []
    monkeypatch.setattr(command, "plan_runs", lambda runs, inputs, root: [planned.append(run) or project.plan(run) for run in runs])
    outcome = project.run("table1", "fig2", "--set", "dataset=pog", "--set", "models=paper")
    assert outcome.exit_code == 0, outcome.output
    assert all(run.overrides[-2:] == ("dataset=pog", "models=paper") for run in planned)
    assert planned[0].overrides[0] == "comparison=table1"
    assert (project.root / "docs" / "results" / "dataset-pog_models-paper" / "table1.md").is_file()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_hands_another_setting_on_to_every_experiment() -> None:
    names = [experiment.name for experiment in EXPERIMENTS]
    command = ["make", "--dry-run", *names, "ARGS=--set dataset=folder"]
    shown = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"-m experiments (.*?) \|\|", shown) == [f"{name} --args '--set dataset=folder'" for name in names]


def test_all_experiments_share_one_default_run(project: Project) -> None:
    assert project.run().exit_code == 0
    assert project.executed.count("default") == 1
    assert not set(project.executed) & set(SAME_AS_DEFAULT)
    assert len(project.executed) == len(set(project.executed)) == 85
    assert len(project.read_outputs()) == 3 * len(EXPERIMENTS)


def test_a_second_time_runs_nothing_and_writes_the_same_bytes(project: Project) -> None:
    project.run()
    outputs, project.executed = project.read_outputs(), []
    assert project.run().exit_code == 0
    assert project.executed == []
    assert project.read_outputs() == outputs


def test_what_is_on_record_is_not_run_again_on_another_machine(project: Project) -> None:
    project.run("fig2", "fig5")
    outputs, project.executed = project.read_outputs(), []
    project.stored.clear()  # a clone of the repository has no experiment of its own
    assert "0 of 3 runs are missing" in project.run("fig2", "--dry-run").output
    assert project.run("fig2", "fig5").exit_code == 0
    assert (project.executed, project.read_outputs()) == ([], outputs)


def test_what_is_on_record_is_run_again_if_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run("fig2")
    project.executed = []
    project.stored.clear()
    assert "3 of 3 runs are missing" in project.run("fig2", "--dry-run", "--rerun").output
    outcome = project.run("fig2", "--rerun")
    assert project.executed == ["default", "exp-ret", "random"]
    assert outcome.output.count("the scores on record came out again, to the last bit") == 3


def test_a_failure_is_the_last_word_but_the_others_are_written(project: Project) -> None:
    project.failing = {"exp-ret"}
    outcome = project.run("fig2")
    assert isinstance(outcome.exception, ValueError)
    assert "1 of 3 runs failed: exp-ret" in str(outcome.exception)
    assert project.executed == ["default", "exp-ret", "random"]
    assert b"Not run: exp-ret." in project.read_outputs()["fig2.md"]
    project.failing, project.executed = set(), []
    assert project.run("fig2").exit_code == 0
    assert project.executed == ["exp-ret"]
    assert b"Not run" not in project.read_outputs()["fig2.md"]


def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.interrupted = {"random"}
    monkeypatch.setattr("sys.argv", ["experiments", "fig2"])
    with pytest.raises(SystemExit) as ended:
        run_app(command.app)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted: finished runs are kept, the same command goes on with the rest\n"
    project.interrupted, project.executed = set(), []
    assert project.run("fig2").exit_code == 0
    assert project.executed == ["random"]


def test_a_full_disk_is_one_sentence(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command, "write_bytes", refuse)
    monkeypatch.setattr("sys.argv", ["experiments", "fig2"])
    with pytest.raises(SystemExit) as ended:
        run_app(command.app)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: writing to docs/results: No space left on device; free some space")


def test_collecting_runs_nothing(project: Project) -> None:
    assert "no run is finished" in project.run("fig2", "--collect").output
    assert project.executed == []
    project.run("seeds")
    project.executed = []
    assert project.run("fig2", "--collect").exit_code == 0
    assert project.executed == []
    assert b"Not run: exp-ret, random." in project.read_outputs()["fig2.md"]


def test_a_dry_run_only_says_what_is_missing(project: Project) -> None:
    project.run("table4")
    outputs, project.executed = project.read_outputs(), []
    told = project.run("fig2", "--dry-run").output
    assert "finished  ragar-default-" in told
    assert "missing   ragar-random-" in told
    assert "2 of 3 runs are missing" in told
    assert (project.executed, project.read_outputs()) == ([], outputs)


def test_two_series_at_once_are_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Result] = []

    def nest(plan: Plan, *, root: Path) -> int:
        monkeypatch.setattr(command, "execute_plan", project.execute)
        seen.append(project.run("table4"))
        return project.execute(plan, root=root)

    monkeypatch.setattr(command, "execute_plan", nest)
    assert project.run("table4").exit_code == 0
    assert "in use by another run" in str(seen[0].exception)


def test_outside_of_the_repository_it_says_where_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(command.app, ["fig2"])
    assert "run this in the repository's root" in str(outcome.exception)


def test_fig5_marks_the_default_points_of_both_axes(project: Project) -> None:
    project.run("fig5")
    plot = project.read_outputs()["fig5.svg"].decode()
    assert plot.count("role='main'") == 3 * len(get_experiment("fig5").metrics)
