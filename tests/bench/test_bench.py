"""What `make bench` computes and prints. Run: python -m pytest tests/bench/test_bench.py"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pipeline.params import load_params
from tests.bench import __main__ as command
from tests.bench.arithmetic import count_flops, measure_peak
from tests.bench.campaign import Measured, run_campaign
from tests.bench.contests import is_parallel, looks_alike
from tests.bench.gpu_races import make_photo
from tests.bench.lots import DefaultRun, Lot, make_lot
from tests.bench.models import STAGES, Setting
from tests.bench.page import describe_cpu, write_page
from tests.bench.timing import Contest, Timings, compute_ratio, count_same, format_ratio, weigh
from tests.configs import REPO
from tests.tiny_encoders import save_tiny_blip2, save_tiny_clip
from tests.tiny_models import save_tiny_qwen2, save_tiny_stable_diffusion

CPU = torch.device("cpu")


def make_rows(count: int) -> list[dict[str, Any]]:
    """Make items with a photo each."""
    return [{"item_id": f"i{index:02d}", "image": make_photo(index, 24), "text": f"thing {index}", "category": "things"} for index in range(count)]


def test_a_ratio_is_the_geometric_mean_over_the_repetitions() -> None:
    found = compute_ratio([8.0, 2.0], [2.0, 2.0])
    assert found.value == pytest.approx(2.0)  # of 4 and 1
    assert (found.low, found.high, found.n) == (None, None, 2)
    assert format_ratio(found) == "2.00"


def test_ten_repetitions_give_an_interval_around_the_ratio() -> None:
    found = compute_ratio([4.0, 16.0] * 5, [1.0, 1.0] * 5)
    assert found.value == pytest.approx(8.0)
    assert 4.0 < found.low < 8.0 < found.high < 16.0
    assert format_ratio(found) == f"8.00 [{found.low:.2f}, {found.high:.2f}]"
    even = compute_ratio([6.0] * 10, [2.0] * 10)
    assert format_ratio(even) == "3.00 [3.00, 3.00]"


def test_stages_are_weighted_by_the_rows_of_a_default_run() -> None:
    timings = {
        name: Timings(ours={"cpu": [ours], "wall": [9.0]}, loop={"cpu": [loop], "wall": [9.0]}) for name, ours, loop in (("a", 1, 4), ("b", 2, 2))
    }
    assert weigh(timings, {"a": 20, "b": 10}, "cpu", rows=10) == ([2 * 4 + 2], [2 * 1 + 2])


def test_rows_without_an_outcome_in_both_ways_are_the_same() -> None:
    assert count_same({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}, ["a", "b", "c", "d"], lambda first, second: first == second) == 2


def test_outcomes_are_the_same_but_for_the_last_bits() -> None:
    vector = np.array([1.0, 2.0, 3.0])
    assert is_parallel(vector, vector * 1.0001)
    assert not is_parallel(vector, vector[::-1])
    assert looks_alike(make_photo(1, 16), make_photo(1, 16))
    assert not looks_alike(make_photo(1, 16), make_photo(2, 16))
    assert not looks_alike(make_photo(1, 16), make_photo(1, 17))


def test_operations_are_those_of_the_products_a_row(tmp_path: Path) -> None:
    lot = make_lot(tmp_path / "lot", make_rows(2))

    def way(lot: Lot) -> dict[str, Any]:
        return {"sum": float((torch.ones(3, 4) @ torch.ones(4, 5)).sum())}

    assert count_flops(way, lot) == ({"sum": 60.0}, 2 * 3 * 4 * 5 / 2)
    assert 0 < measure_peak(torch.float32, side=64, tries=2) < 1e15


def test_both_ways_take_turns_on_lots_that_share_no_row_and_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", "before")
    seen: list[tuple[str, str, str]] = []

    def way(name: str) -> Any:
        def run(lot: Lot) -> dict[str, Any]:
            seen.append((name, "".join(row["item_id"] for row in lot.rows), os.environ["DVC_ROOT"]))
            return {row["item_id"]: row["text"] for row in lot.rows}

        return run

    contest = Contest("a", way("ours"), way("loop"), lambda first, second: first == second)
    measured = run_campaign([contest], make_rows(6), tmp_path, rows=2, repetitions=2)
    assert [(name, rows) for name, rows, _ in seen] == [
        *[("ours", "i00i01"), ("loop", "i00i01")],  # warm-up
        *[("ours", "i02i03"), ("loop", "i02i03")],
        *[("loop", "i04i05"), ("ours", "i04i05")],
    ]
    assert len({root for _, _, root in seen}) == 3
    assert os.environ["DVC_ROOT"] == "before"
    timings = measured.timings["a"]
    assert (timings.num_rows, timings.num_same) == (4, 4)
    assert all(len(seconds) == 2 for way in (timings.ours, timings.loop) for seconds in way.values())


def test_the_page_says_ratios_rates_operations_and_the_bound() -> None:
    timings = Timings(ours={"cpu": [1.0], "wall": [2.0]}, loop={"cpu": [5.0], "wall": [6.0]}, num_rows=4, num_same=3)
    measured = Measured(4, 1, {"captioning": timings}, {"captioning": (1e9, 3e9)})
    page = write_page(measured, {"captioning": 1800}, {"captioning": 8e9}, command="make bench")
    assert "| captioning | 75.0% | 0.67 | 2.00 | 3.00 | 5.00 | 3.00 | 1.00 | 50% of 8 GFLOP/s |" in page
    assert "(1,800 in captioning): ratio 3.00 of wall time,\n5.00 of CPU time" in page
    assert "Below 10 repetitions no interval is given" in page


def test_the_machine_is_named_by_its_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Some CPU @ 2 GHz\n")
    assert describe_cpu(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
    assert describe_cpu(tmp_path / "none") == os.uname().machine


def make_tiny_setting(folder: Path) -> Setting:
    """Make tiny models of the hub's kinds, and configs that fit them."""
    folders = {
        "captioner": save_tiny_blip2(folder / "captioner"),
        "clip": save_tiny_clip(folder / "clip"),
        "language_model": save_tiny_qwen2(folder / "language_model"),
        "diffusion": save_tiny_stable_diffusion(folder / "diffusion"),
    }
    configs = {stage: load_params(REPO / "params.yaml", stage, config_class) for stage, config_class in STAGES.items()}
    changes = {"captioning": {"max_new_tokens": 4}, "keywords": {"max_new_tokens": 6}, "generation": {"steps": 2}, "embedding": {}}
    configs = {stage: replace(config, batch_size=2, **changes[stage]) for stage, config in configs.items()}
    named = {role: str(path) for role, path in {**folders, "visual": folders["clip"]}.items()}
    return Setting(REPO / "params.yaml", named, configs, 0, CPU, torch.float32, torch.float32)


@pytest.fixture
def tiny_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command with tiny models and four items."""
    weights = {"captioning": 4, "embedding": 4, "keywords": 4, "drawing": 2}
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    setting = make_tiny_setting(tmp_path / "models")
    monkeypatch.setattr(command, "measure_peak", lambda dtype: 1e9)
    monkeypatch.setattr(command, "read_default_run", lambda params: DefaultRun(make_rows(4), weights))
    monkeypatch.setattr(command, "read_setting", lambda params, device: setting)
    return tmp_path / "bench.md"


def test_pipeline_and_loops_come_to_the_same_captions_vectors_and_pictures(tiny_bench: Path) -> None:
    ended = CliRunner().invoke(command.app, ["--rows", "2", "--repetitions", "1", "--out", str(tiny_bench)], catch_exceptions=False)
    assert ended.exit_code == 0
    page = tiny_bench.read_text()
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in page.splitlines() if line.startswith("| ")}
    assert list(rows) == ["stage", "captioning", "embedding", "keywords", "keywords, prefix cached", "drawing"]
    assert [rows[name][1] for name in list(rows)[1:]] == ["100.0%"] * 5
    for name in list(rows)[1:]:
        rates = [float(cell) for cell in rows[name][2:4]]
        assert float(rows[name][4]) == pytest.approx(rates[1] / rates[0], rel=0.1, abs=0.01)
        assert all(math.isfinite(float(cell)) for cell in rows[name][4:8])
    assert "make bench ARGS='--rows 2 --repetitions 1'" in page


def test_more_rows_than_the_data_set_has_are_refused(tiny_bench: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^3 rows x \(1 repetitions \+ a warm-up\) are 6 items, but the data set has 4; lower --rows or --repetitions.$"
    ):
        CliRunner().invoke(command.app, ["--rows", "3", "--repetitions", "1", "--out", str(tiny_bench)], catch_exceptions=False)
    assert not tiny_bench.exists()
