"""Batches that come back in any order, and what a kill leaves of them; no Ray. Run: python -m pytest tests/pipeline/cluster/test_batches.py"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import rows as rows_module
from pipeline.engine import Current, choose_engine, compute_batches
from pipeline.ledger import open_ledger
from pipeline.rows import MapResult, Row, map_rows
from tests.pipeline.cluster import driver


class KilledError(Exception):
    """The end of the driver."""


def compute_in_any_order(chance: random.Random, seen: list[list[str]], *, until: int) -> object:
    def compute(batches: list[list[Row]], function: object, **options: object) -> Iterator[tuple[int, object]]:
        order = chance.sample(range(len(batches)), len(batches))
        for count, index in enumerate(order):
            if count == until:
                raise KilledError
            seen.append([row.key for row in batches[index]])
            yield index, function(batches[index])

    return compute


def run(count: int) -> MapResult:
    def compute(batch: list[Row]) -> list[dict[str, float]]:
        return [{"value": row.payload / sum(other.payload + 1 for other in batch)} for row in batch]

    with open_ledger("toy", pa.schema([pa.field("value", pa.float64())]), code=[run], inputs="") as ledger:
        return map_rows(ledger, driver.make_rows(count), compute, batch_size=driver.BATCH_SIZE, label="toy").load()


@pytest.mark.parametrize("seed", range(12))
def test_whichever_batches_were_finished_before_a_kill_the_rest_is_cut_as_before(seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chance = random.Random(seed)
    count = chance.randint(1, 90)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "undisturbed"))
    cut: list[list[str]] = []
    monkeypatch.setattr(rows_module, "compute_batches", compute_in_any_order(chance, cut, until=1000))
    whole = run(count)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "killed"))
    seen: list[list[str]] = []
    for _ in range(5):  # kills
        monkeypatch.setattr(rows_module, "compute_batches", compute_in_any_order(chance, seen, until=chance.randint(0, 6)))
        try:
            run(count)
        except KilledError:
            continue
    monkeypatch.setattr(rows_module, "compute_batches", compute_in_any_order(chance, seen, until=1000))
    assert run(count).values == whole.values
    assert sorted(seen) == sorted(cut)  # the same batches, each of them once


def test_locally_nothing_of_ray_is_loaded_and_batches_come_in_order() -> None:
    choose_engine("local", None, needs_gpu=False)
    before = set(sys.modules)
    assert list(compute_batches([[1], [2], [3]], sum, label="toy")) == [(0, 1), (1, 2), (2, 3)]
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] == "ray" or "pipeline.cluster.pool" in name}


def test_ray_without_its_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engine.find_spec", lambda name: None)
    words = "runtime.engine is ray, but the package ray is not installed; `make setup EXTRAS=cluster` installs it."
    with pytest.raises(ValueError, match=words):
        choose_engine("ray", None, needs_gpu=False)
    assert Current.engine == "local"
