"""Generators, devices and progress lines. Run: python -m pytest tests/pipeline/test_runtime.py"""

from dataclasses import replace

import pytest
import torch

from pipeline.gpu import warn_of_unused_card
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
    monkeypatch.setattr("pipeline.runtime.explain_unusable", lambda: "there is no NVIDIA card")
    words = "runtime.device is cuda, but this machine has no usable GPU: there is no NVIDIA card; allowed are auto, cpu and cuda."
    with pytest.raises(ValueError, match=words):
        resolve_device(replace(RUNTIME, device="cuda"))
    assert resolve_device(replace(RUNTIME, device="auto")).type == "cpu"


def test_an_idle_gpu_is_said_once_and_loudly_and_a_machine_without_one_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.runtime.explain_unusable", lambda: "the NVIDIA driver is older than CUDA 13.2")
    auto = replace(RUNTIME, device="auto")
    warn_of_unused_card.cache_clear()
    monkeypatch.setattr("pipeline.runtime.has_card", lambda: False)
    assert resolve_device(auto).type == "cpu"
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("pipeline.runtime.has_card", lambda: True)
    assert [resolve_device(auto).type for _ in range(3)] == ["cpu"] * 3
    warning = "WARNING: the GPU is not used, everything runs on the CPU: the NVIDIA driver is older than CUDA 13.2.\n"
    assert capsys.readouterr() == ("", warning)
    assert resolve_device(replace(auto, device="cpu")).type == "cpu"
    assert capsys.readouterr() == ("", "")


def test_progress_lines_show_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert format_progress("captioning", 640, 1800, 32.0) == "captioning: 640/1800, 20/s, 58 s left"
    monkeypatch.setattr("pipeline.runtime.LOG_SECONDS", 0.0)
    assert list(progress(range(3), label="x", total=5, step=2)) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["x: 2/5", "x: 4/5", "x: 5/5"]


def test_a_stage_ends_with_one_summary_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary("captioning", Summary(rows_in=1818, computed=18, reused=1800, rejected=2, seconds=3.21))
    assert capsys.readouterr().out == "captioning: 1818 rows in, 18 computed, 1800 reused, 2 rejected, 3.2 s\n"
