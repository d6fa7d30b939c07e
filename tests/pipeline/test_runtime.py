"""Generators, devices and progress lines. Run: python -m pytest tests/pipeline/test_runtime.py"""

from dataclasses import replace

import pytest
import torch

from pipeline.randomness import make_generator
from pipeline.rows import Summary
from pipeline.runtime import format_progress, print_summary, progress, resolve_device
from tests.configs import RUNTIME


def test_a_rows_randomness_depends_on_its_names_alone() -> None:
    draw = lambda *names: torch.rand(3, generator=make_generator(0, *names))  # noqa: E731
    assert torch.equal(draw("generation", "case-1"), draw("generation", "case-1"))
    assert not torch.equal(draw("generation", "case-1"), draw("generation", "case-2"))
    assert not torch.equal(draw("ab", "c"), draw("a", "bc"))


def test_asking_for_an_absent_gpu_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no usable GPU"):
        resolve_device(replace(RUNTIME, device="cuda"))
    assert resolve_device(replace(RUNTIME, device="auto", num_threads=0)).type == "cpu"


def test_progress_lines_show_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert format_progress("captioning", 640, 1800, 32.0) == "captioning: 640/1800, 20/s, 58 s left"
    monkeypatch.setattr("pipeline.runtime.LOG_SECONDS", 0.0)
    assert list(progress(range(3), label="x", total=5, step=2)) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["x: 2/5", "x: 4/5", "x: 5/5"]


def test_a_stage_ends_with_one_summary_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary("captioning", Summary(rows_in=1818, computed=18, reused=1800, rejected=2, seconds=3.21))
    assert capsys.readouterr().out == "captioning: 1818 rows in, 18 computed, 1800 reused, 2 rejected, 3.2 s\n"
