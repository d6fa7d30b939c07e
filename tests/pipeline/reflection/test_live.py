"""The log of a training to DVCLive. Run: `python -m pytest tests/pipeline/reflection/test_live.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.reflection import fit
from pipeline.reflection.live import open_live
from tests.pipeline.reflection.test_fit import run


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def log_run(make_world, folder: Path, *, name: str) -> dict[str, bytes]:
    with open_live(folder) as log_row:
        run(make_world(), name=name, log_row=log_row)
    return read_files(folder)


def test_every_row_is_logged_with_gradient_norms_and_the_mean_rank(make_world, tmp_path: Path) -> None:
    files = log_run(make_world, tmp_path / "live", name="a")
    names = ("grad_rank", "grad_calibration", "grad_semantic", "mean_rank", "reward", "validation_rank")
    assert {f"plots/metrics/{name}.tsv" for name in names} <= set(files)
    assert files["plots/metrics/mean_rank.tsv"].decode().splitlines()[0] == "step\tmean_rank"
    assert len(files["plots/metrics/grad_semantic.tsv"].splitlines()) == 1 + 6
    assert not any(name.endswith(("dvc.yaml", ".html")) for name in files)


def test_a_training_that_breaks_off_and_goes_on_leaves_the_same_log(make_world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = log_run(make_world, tmp_path / "whole", name="whole")
    observe = fit.observe_step
    with monkeypatch.context() as patch:
        patch.setattr(fit, "observe_step", lambda *args, step, **rest: observe(*args, step=step, **rest) if step != 3 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            log_run(make_world, tmp_path / "broken", name="broken")
    assert len(read_files(tmp_path / "broken")["plots/metrics/loss.tsv"].splitlines()) == 1 + 3  # what was seen of it while it ran
    assert log_run(make_world, tmp_path / "broken", name="broken") == whole


def test_a_missing_package_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dvclive", None)
    with pytest.raises(ValueError, match="`dvclive` is not installed, run `make setup`"), open_live(tmp_path):
        pass
