"""A checkpoint is whole or set aside, whatever happened to it. Run: python -m pytest tests/pipeline/test_checkpoints.py"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.checkpoints import CheckpointFolder, open_checkpoints
from pipeline.training import (
    Plan,
    run_training,
)
from pipeline.work import work_dir
from tests.pipeline.test_training import NUM_STEPS, PLAN, ToyTraining, assert_same, change, find_checkpoint, run, train_plainly

REPO = Path(__file__).resolve().parents[2]


def damage(change: Callable[[bytes], bytes]) -> None:
    path = find_checkpoint()
    path.write_bytes(change(path.read_bytes()))


def interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(ToyTraining(stop_at=5))


def assert_starts_again(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    training = ToyTraining()
    run(training)
    assert training.taken == list(range(NUM_STEPS))
    assert capsys.readouterr().out.count("damaged and set aside") == 1
    assert_same(training.name_tensors(), train_plainly()[0])


def test_every_flipped_byte_of_a_checkpoint_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    interrupt()
    path = find_checkpoint()
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        assert CheckpointFolder(path.parent).load(lambda _: None) is None
        assert not path.exists()
    assert capsys.readouterr().out.count("damaged and set aside") == len(data)
    path.write_bytes(data)
    assert CheckpointFolder(path.parent).load(lambda _: None) is not None


@pytest.mark.parametrize("broken", [lambda data: data[:-1], lambda data: data[:100], lambda data: b"", lambda data: data + b"\0"])
def test_a_damaged_checkpoint_is_set_aside_with_one_warning_and_training_starts_again(broken, capsys: pytest.CaptureFixture[str]) -> None:
    interrupt()
    damage(broken)
    assert_starts_again(capsys)


def rename(old: str, new: str) -> Callable[[dict, dict], None]:
    def edit(tensors: dict[str, torch.Tensor], facts: dict) -> None:
        tensors[new] = tensors.pop(old)
        facts["names"] = sorted(tensors)

    return edit


def put(name: str, value: torch.Tensor) -> Callable[[dict, dict], None]:
    return lambda tensors, facts: tensors.update({name: value}) or facts.update(names=sorted(tensors))


@pytest.mark.parametrize(
    "edit",
    [
        rename("weights.0.weight", "weights.0.wait"),
        lambda tensors, facts: tensors.pop("weights.0.weight"),
        lambda tensors, facts: tensors.pop("optimizer.0.exp_avg"),
        put("weights.other", torch.ones(1)),
        put("best.0.weight", torch.ones(4, 3)),
        put("weights.0.weight", torch.ones(4, 2)),
        put("weights.0.weight", torch.ones(4, 3, dtype=torch.float64)),
        put("optimizer.0.exp_avg", torch.ones(4, 2)),
        put("optimizer.9.exp_avg", torch.ones(())),
        put("optimizer.x", torch.ones(())),
        put("other", torch.ones(())),
        lambda tensors, facts: facts.pop("step"),
        lambda tensors, facts: facts.pop("curves"),
        lambda tensors, facts: facts.update(step="4"),
        lambda tensors, facts: facts.update(step=99),
        lambda tensors, facts: facts.update(step=3),
        lambda tensors, facts: facts.update(curves={}),
        lambda tensors, facts: facts.update(curves=facts["curves"][:-1]),
        lambda tensors, facts: facts.update(curves=[1]),
        lambda tensors, facts: facts.update(seconds=None),
        lambda tensors, facts: facts.update(more=1),
        lambda tensors, facts: facts.clear(),
    ],
)
def test_wrong_tensors_or_facts_are_set_aside_as_well(edit: Callable[[dict, dict], object], capsys: pytest.CaptureFixture[str]) -> None:
    interrupt()
    change(edit)
    assert_starts_again(capsys)


def test_a_checkpoint_replaces_the_last_one() -> None:
    interrupt()
    assert find_checkpoint().name.startswith("checkpoint-00000004-")
    run(ToyTraining())
    assert find_checkpoint().name.startswith("checkpoint-00000007-")


KILLED = """
import os, signal, sys
from tests.pipeline.test_training import ToyTraining, run
name, count = sys.argv[1], [0]
real = getattr(os, name)
def die(*args):
    count[0] += 1
    if count[0] == {count}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
setattr(os, name, die)
run(ToyTraining())
"""


@pytest.mark.parametrize(("name", "count", "resumed_at"), [("fsync", 7, 2), ("replace", 4, 2), ("fsync", 8, 4), ("unlink", 5, 4)])
def test_a_kill_while_a_checkpoint_is_written_leaves_the_old_or_the_new_one(name: str, count: int, resumed_at: int) -> None:
    # in the second one: before and after its bytes are on disk, after it has its name, and when the first one goes
    code = KILLED.format(count=count)
    environment = {**os.environ, "DVC_ROOT": str(work_dir().parent), "PYTHONPATH": str(REPO)}
    killed = subprocess.run([sys.executable, "-c", code, name], env=environment, cwd=REPO, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    training = ToyTraining()
    run(training)
    assert training.taken[0] == resumed_at
    assert_same(training.name_tensors(), train_plainly()[0])
    assert [path.name for path in find_checkpoint().parent.iterdir() if path.name.startswith(".")] == []


def test_two_runs_cannot_train_the_same() -> None:
    with (
        open_checkpoints("toy", code=[ToyTraining], inputs="f"),
        pytest.raises(ValueError, match="in use by another run"),
    ):
        run(ToyTraining())


def test_other_code_or_inputs_start_another_training() -> None:
    run(ToyTraining())
    for code, inputs in (([Plan], "f"), ([ToyTraining], {"captions": torch.ones(2)})):
        training = ToyTraining()
        with open_checkpoints("toy", code=code, inputs=inputs) as checkpoints:
            run_training(training, PLAN, checkpoints, checkpoint_every=2)
        assert training.taken == list(range(NUM_STEPS))
    with (
        pytest.raises(ValueError, match="must be part of the key"),
        open_checkpoints("toy", code=[], inputs="f"),
    ):
        pass
