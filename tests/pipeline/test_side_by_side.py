"""Parts on threads against the same parts in turn. Run: python -m pytest tests/pipeline/test_side_by_side.py"""

from __future__ import annotations

import threading

import pytest

from pipeline.engine import Current
from pipeline.side_by_side import compute_side_by_side


def test_parts_keep_their_order_and_are_computed_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Current, "workers", 2)
    both = threading.Barrier(2, timeout=30)  # broken if the second part waits for the end of the first

    def compute(part: int) -> int:
        both.wait()
        return part * 10

    assert compute_side_by_side(compute, [3, 1]) == [30, 10]


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_left_running_and_an_error_is_raised(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(Current, "workers", workers)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        compute_side_by_side(lambda part: 1 // part, [1, 0, 2])
    assert threading.active_count() == before
    assert compute_side_by_side(lambda part: part, []) == []


def test_one_worker_takes_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Current, "workers", 1)
    assert set(compute_side_by_side(lambda part: threading.current_thread(), [1, 2])) == {threading.main_thread()}
