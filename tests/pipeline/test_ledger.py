"""Finished rows survive a crash and are never computed twice. Run: python -m pytest tests/pipeline/test_ledger.py"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.artifacts import read_table, write_rejected
from pipeline.ledger import open_ledger
from pipeline.rows import Rejection, Row, map_rows
from pipeline.schemas import REJECTED
from pipeline.work import work_dir

COLUMNS = pa.schema([("square", pa.float32())])
REPO = Path(__file__).resolve().parents[2]


def make_rows(count: int) -> list[Row]:
    return [Row(key=f"k{i:03d}", inputs={"x": i}, payload=i) for i in range(count)]


def square(rows: list[Row]) -> list[dict | Rejection]:
    return [Rejection(f"{row.payload} is unlucky.") if row.payload == 13 else {"square": row.payload**2 / 3} for row in rows]


def run(rows: list[Row], compute=square, batch_size: int = 4):
    with open_ledger("toy", COLUMNS, code=[make_rows], inputs="f") as ledger:
        return map_rows(ledger, rows, compute, batch_size=batch_size, label="toy").load()


def test_every_row_has_exactly_one_outcome() -> None:
    result = run(make_rows(20))
    assert set(result.values) | set(result.rejected) == {row.key for row in make_rows(20)}
    assert result.rejected == {"k013": "13 is unlucky."}
    assert (result.summary.computed, result.summary.reused, result.summary.rejected) == (20, 0, 1)


def test_finished_rows_are_not_computed_again_and_new_ones_are() -> None:
    first = run(make_rows(20))
    again = run(make_rows(20), compute=lambda rows: pytest.fail("computed again"))
    assert again.values == first.values
    assert again.rejected == first.rejected
    seen: list[int] = []
    more = run(make_rows(22), compute=lambda rows: [seen.append(row.payload) or {"square": 0.0} for row in rows])
    assert sorted(set(seen)) == [20, 21]
    assert (more.summary.computed, more.summary.reused) == (2, 20)


def test_every_batch_has_the_same_size_and_equal_inputs_are_computed_once() -> None:
    sizes: list[int] = []
    rows = [Row(key=f"k{i}", inputs={"x": i % 3}, payload=i % 3) for i in range(10)]
    result = run(rows, compute=lambda batch: [sizes.append(len(batch)) or {"square": float(r.payload)} for r in batch], batch_size=2)
    assert set(sizes) == {2}
    assert result.summary.computed == 3
    assert result.values["k4"] == {"square": 1.0}


def test_a_kill_between_batches_loses_no_finished_batch_and_cuts_the_rest_alike() -> None:
    batches: list[list[int]] = []

    def record(rows: list[Row]) -> list[dict]:
        batches.append([row.payload for row in rows])
        if len(batches) == 3:
            raise KeyboardInterrupt
        return [{"square": row.payload / 7} for row in rows]

    with pytest.raises(KeyboardInterrupt):
        run(make_rows(19), compute=record)
    run(make_rows(19), compute=record)
    assert batches[2] == batches[3] == [8, 9, 10, 11]
    assert len(batches) == 3 + 3


def test_kill_9_in_the_middle_of_writing_leaves_whole_parts_only(tmp_path: Path) -> None:
    script = f"""
import os, signal, sys
import pyarrow as pa
sys.path.insert(0, {str(REPO)!r})
from tests.pipeline.test_ledger import COLUMNS, make_rows, square
import pipeline.artifacts as artifacts
from pipeline.rows import map_rows
from pipeline.ledger import open_ledger
real, count = os.replace, [0]
def replace(a, b):
    count[0] += 1
    if count[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    real(a, b)
os.replace = replace
with open_ledger("toy", COLUMNS, code=[make_rows], inputs="f") as ledger:
    map_rows(ledger, make_rows(30), square, batch_size=4, label="toy")
"""
    process = subprocess.run([sys.executable, "-c", script], env={**os.environ, "DVC_ROOT": str(tmp_path)}, cwd=REPO, check=False)
    assert process.returncode == -signal.SIGKILL
    result = run(make_rows(30))
    assert (result.summary.reused, result.summary.computed) == (12, 18)
    assert not list(work_dir().rglob("*.tmp"))
    expected = {row.key: row.payload for row in make_rows(30) if row.payload != 13}
    assert {key: round(value["square"] * 3) for key, value in result.values.items()} == {k: v**2 for k, v in expected.items()}


def test_a_damaged_part_is_noticed_and_computed_again(capsys: pytest.CaptureFixture[str]) -> None:
    first = run(make_rows(20))
    part = sorted(work_dir().rglob("part-*.parquet"))[1]
    data = bytearray(part.read_bytes())
    data[30] ^= 0xFF
    part.write_bytes(data)
    again = run(make_rows(20))
    assert again.summary.computed == 4
    assert again.values == first.values
    assert "damaged" in capsys.readouterr().out


def test_two_runs_cannot_share_a_ledger() -> None:
    with (
        open_ledger("toy", COLUMNS, code=[make_rows], inputs="f"),
        pytest.raises(ValueError, match="in use by another run"),
        open_ledger("toy", COLUMNS, code=[make_rows], inputs="f"),
    ):
        pass


def test_too_many_rejections_stop_the_stage_after_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "rejected.parquet"
    with pytest.raises(ValueError, match="2 of 10 rows were rejected, more than the allowed fraction 0.1"):
        write_rejected(path, "toy", {"a": "bad.", "b": "bad."}, rows_in=10, max_fraction=0.1, provenance={})
    assert read_table(path, REJECTED)["row_key"].to_pylist() == ["a", "b"]
