"""What work costs. Run: `python -m pytest tests/pipeline/test_cost.py`."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from pipeline.cost import describe_training, measure_rows, summarise_rows
from pipeline.rows import Rejection, Row

CPU = torch.device("cpu")


def test_rows_share_their_batchs_seconds_and_rejections_cost_nothing() -> None:
    def compute(batch: list[Row]) -> list[dict | Rejection]:
        time.sleep(0.05)
        return [Rejection("no"), *({"value": 1} for _ in batch[1:])]

    outcomes = measure_rows(compute, CPU)([Row("a", 1), Row("b", 2)])
    assert outcomes[0] == Rejection("no")
    assert outcomes[1]["value"] == 1
    assert 0.025 <= outcomes[1]["seconds"] < 0.05
    assert outcomes[1]["peak_memory_mb"] > 10


def test_the_seconds_of_a_row_are_the_median_so_that_the_start_does_not_count() -> None:
    rows = [{"seconds": seconds, "peak_memory_mb": 10.0 + seconds} for seconds in (9.0, 1.0, 2.0)]
    summary = summarise_rows(rows, CPU)
    assert (summary["num_rows"], summary["seconds"], summary["seconds_per_row"], summary["peak_memory_mb"]) == (3, 12.0, 2.0, 19.0)
    assert summary["device"] == "cpu"
    assert summarise_rows([], CPU)["seconds_per_row"] is None


PARENT = """
import subprocess, sys
held = bytearray(b"1") * 600_000_000
child = "from pipeline.cost import read_peak_resident; print(read_peak_resident())"
subprocess.run([sys.executable, "-c", child], check=True)
"""


def test_what_started_a_process_does_not_count_as_its_memory() -> None:
    printed = subprocess.run([sys.executable, "-c", PARENT], check=True, capture_output=True, text=True).stdout
    assert 10e6 < int(printed) < 500e6


@pytest.mark.gpu
def test_a_gpus_peak_is_what_torch_allocated() -> None:
    torch.zeros(10**7, device="cuda")
    assert describe_training(1.0, torch.device("cuda"))["peak_memory_mb"] >= 40
