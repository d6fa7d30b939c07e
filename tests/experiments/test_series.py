"""One run after the other, none twice, a failure loses nothing. Run: python -m pytest tests/experiments/test_series.py -q"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import series
from experiments.plan import Plan
from experiments.runs import DEFAULT, Run
from experiments.series import build_command, build_environment, execute_plan, format_seconds, get_log, run_series

PLANS = [Plan(DEFAULT, "0000000000"), Plan(Run("k-3", ("retrieval.k=3",)), "3333333333"), Plan(Run("k-7", ("retrieval.k=7",)), "7777777777")]


class Bench:
    """Stands in for DVC: knows what is finished, and which runs fail with which exit code."""

    def __init__(self, finished: tuple[str, ...] = (), codes: dict[str, int] | None = None) -> None:
        self.finished = dict.fromkeys(finished, "found")
        self.codes = codes or {}
        self.executed: list[str] = []
        self.said: list[str] = []

    def execute(self, plan: Plan) -> int:
        self.executed.append(plan.run.name)
        code = self.codes.get(plan.run.name, 0)
        if code == 0:
            self.finished[plan.fingerprint] = plan.experiment
        return code

    def run(self) -> list[str]:
        clock = itertools.count(0, 60)
        outcomes = run_series(PLANS, find=self.finished.get, execute=self.execute, say=self.said.append, clock=lambda: next(clock))
        return [outcome.status for outcome in outcomes]


def test_runs_go_in_order_and_say_where_the_series_is() -> None:
    bench = Bench()
    assert bench.run() == ["made"] * 3
    assert bench.executed == ["default", "k-3", "k-7"]
    assert bench.said[:3] == [
        "[1/3] default: running the default as ragar-default-0000000000",
        "[1/3] default: done in 1 min 00 s",
        "[2/3] k-3: running retrieval.k=3 as ragar-k-3-3333333333",
    ]


def test_a_finished_run_is_not_run_again() -> None:
    bench = Bench(finished=("3333333333",))
    assert bench.run() == ["made", "kept", "made"]
    assert bench.executed == ["default", "k-7"]
    assert "[2/3] k-3: finished before, as found" in bench.said


def test_a_failed_run_names_itself_and_its_log_and_the_others_go_on() -> None:
    bench = Bench(codes={"k-3": 255})
    assert bench.run() == ["made", "failed", "made"]
    told = next(line for line in bench.said if "FAILED" in line)
    assert told.startswith("[2/3] k-3: FAILED after 1 min 00 s (exit code 255)")
    assert str(get_log(PLANS[1].experiment)) in told
    assert get_log(PLANS[1].experiment).name == "ragar-k-3-3333333333.log"


def test_a_second_series_runs_only_what_failed() -> None:
    bench = Bench(codes={"k-3": 255})
    bench.run()
    bench.codes = {}
    bench.executed = []
    assert bench.run() == ["kept", "made", "kept"]
    assert bench.executed == ["k-3"]


def test_an_interrupted_series_goes_on_with_the_next_missing_run() -> None:
    bench = Bench()

    def interrupt(plan: Plan) -> int:
        if plan.run.name == "k-3":
            raise KeyboardInterrupt
        return bench.execute(plan)

    with pytest.raises(KeyboardInterrupt):
        run_series(PLANS, find=bench.finished.get, execute=interrupt, say=bench.said.append)
    assert bench.executed == ["default"]
    assert bench.run() == ["kept", "made", "made"]
    assert bench.executed == ["default", "k-3", "k-7"]


def test_success_without_an_experiment_counts_as_a_failure() -> None:
    told: list[str] = []
    outcomes = run_series(PLANS[:1], find=lambda _: None, execute=lambda _: 0, say=told.append)
    assert outcomes[0].status == "failed"
    assert "it ended without an experiment" in told[-1]


def test_the_command_runs_in_a_temporary_folder_under_the_plans_name() -> None:
    command = build_command(replace(PLANS[1], copies=("data/extra/cat.png",)))
    assert command[:7] == [sys.executable, "-m", "experiments.launch", "--planned", "exp", "run", "--temp"]
    assert command[7:] == [
        "--name",
        "ragar-k-3-3333333333",
        "--copy-paths",
        "data/extra/cat.png",
        "--set-param",
        "retrieval.k=3",
        "evaluation",
    ]


def test_dvc_understands_the_command() -> None:
    from dvc.cli import parse_args

    arguments = parse_args(build_command(replace(PLANS[1], copies=("a.png", "b.png")))[4:])
    assert (arguments.name, arguments.tmp_dir, arguments.force) == ("ragar-k-3-3333333333", True, False)
    assert (arguments.set_param, arguments.copy_paths, arguments.targets) == (["retrieval.k=3"], ["a.png", "b.png"], ["evaluation"])


def test_a_run_gets_this_python_and_nothing_of_a_surrounding_stage() -> None:
    environment = build_environment({"PATH": "/bin", "HOME": "/home/t", "DVC_ROOT": "/elsewhere", "DVC_EXP_NAME": "other"})
    assert environment["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/bin"]
    assert (environment["HOME"], environment["PYTHONHASHSEED"]) == ("/home/t", "0")
    assert not {"DVC_ROOT", "DVC_EXP_NAME"} & environment.keys()


def test_all_output_is_kept_and_only_stages_errors_and_an_idle_gpu_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = "WARNING: the GPU is not used, everything runs on the CPU: the NVIDIA driver is older than CUDA 13.2."
    lines = ["Running stage 'ranker':", "epoch 1", "WARNING: untracked files", gpu, "ranker: 10 rows in, 10 computed, 1.5 s", "error: bad"]
    script = f"print(*{lines}, sep='\\n'); exit(3)"
    monkeypatch.setattr(series, "build_command", lambda plan: [sys.executable, "-c", script])
    assert execute_plan(PLANS[1], root=tmp_path) == 3
    assert capsys.readouterr().out.splitlines() == [f"    {lines[n]}" for n in (0, 3, 4, 5)]
    assert "epoch 1" in get_log(PLANS[1].experiment).read_text()
    execute_plan(PLANS[1], root=tmp_path)
    assert get_log(PLANS[1].experiment).read_text().count("epoch 1") == 2  # an earlier attempt stays readable


def test_an_interrupt_waits_until_dvc_has_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, pathlib, signal, time; time.sleep(0.5); os.kill(os.getppid(), signal.SIGINT); time.sleep(0.7); pathlib.Path('cleaned').touch()"
    )
    monkeypatch.setattr(series, "build_command", lambda plan: [sys.executable, "-c", script])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job that a shell starts in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            execute_plan(PLANS[1], root=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "cleaned").is_file()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")])
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
