"""The page of the ranker's benchmark, from made-up figures, and its loss. Run: python -m pytest tests/test_bench_ranker.py"""

from __future__ import annotations

import pytest

from tests import bench_ranker


def make_size(items: int, seconds: float) -> dict[str, float]:
    times = {f"{name}, {clock}": seconds for name in ("original graphs", "learned graphs", "step", "epoch") for clock in ("clock", "processor")}
    return {"items": items, "train": 10 * items, "steps": 7, "users": 1024, "memory": 2e9} | times


def test_the_page_has_what_was_measured_and_how_it_grows() -> None:
    row = {"clock": 2.0, "processor": 1.0, "bound": 0.5, "value": 1e-8, "gradients": 1e-6}
    official = {bench_ranker.PLAIN: 3.0, bench_ranker.KEPT: 2.0}
    losses = {memory: {bench_ranker.OFFICIAL: row | {"processor": seconds}, bench_ranker.OURS: row} for memory, seconds in official.items()}
    page = bench_ranker.build_page(losses, [(make_size(1_000, 2.0), []), (make_size(10_000, 30.0), [0.99, 0.97])])
    assert "own memory, the one pass is 3.0 times faster by the processor and 1.0 times by the clock" in page
    assert "it is 2.0 times faster by the processor and 1.0 times by the clock.\n" in page
    assert "products would be 4.0 times faster" in page
    assert "|  | 1,000 items | 10,000 items | growth (n log n: 13) |" in page
    assert "| recall | exact | 0.970 |  |" in page
    assert "| step, CPU s (s) | 2.0 (2.0) | 30.0 (30.0) | 15.0 |" in page


def test_both_ways_of_the_loss_are_measured_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_ranker, "LOSS_ITEMS", 100)
    monkeypatch.setattr(bench_ranker, "LOSS_RUNS", 1)
    for found in bench_ranker.measure_loss().values():
        assert found["value"] < 1e-5
        assert found["gradients"] < 1e-4
        assert found["bound"] > 0
