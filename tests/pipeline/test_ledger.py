"""Finished rows survive a crash and are never computed twice. Run: python -m pytest tests/pipeline/test_ledger.py"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import ledger as ledger_module
from pipeline.artifacts import read_table, write_rejected
from pipeline.ledger import Ledger, open_ledger, parse_range
from pipeline.rows import Columns, Rejection, Row, map_rows
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


def list_parts() -> list[Path]:
    return sorted(work_dir().rglob("part-*.parquet"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


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
from pipeline.ledger import Ledger, open_ledger, parse_range
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


KILLED_RUNS = """
import os, pathlib, random
from pipeline import ledger
from tests.pipeline.test_ledger import make_rows, run
ledger.FAN_IN = 2  # many merges
os.fsync = lambda descriptor: None  # for speed
lots, kills, status = random.Random(0), 0, 1
while status:
    last = lots.randrange(2, 14)
    pid = os.fork()
    if pid == 0:
        def count(real):
            def call(*args, **options):
                global last
                last -= 1
                return os.kill(os.getpid(), 9) if last == 0 else real(*args, **options)
            return call
        os.replace, os.unlink, pathlib.Path.unlink = map(count, (os.replace, os.unlink, pathlib.Path.unlink))
        run(make_rows(60), batch_size=2)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    kills += status == 9
    assert status in (0, 9), status
print(kills)
"""


def test_kill_9_at_any_rename_or_removal_while_parts_are_merged_loses_nothing(tmp_path: Path) -> None:
    env = {**os.environ, "DVC_ROOT": str(tmp_path), "PYTHONPATH": str(REPO)}
    process = subprocess.run([sys.executable, "-c", KILLED_RUNS], env=env, cwd=REPO, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) >= 10
    result = run(make_rows(60), compute=lambda rows: pytest.fail("computed again"), batch_size=2)
    assert {key: round(value["square"] * 3) for key, value in result.values.items()} == {f"k{i:03d}": i**2 for i in range(60) if i != 13}
    assert not [path for path in work_dir().rglob("*") if path.suffix in (".damaged", ".tmp")]


def test_a_damaged_part_is_noticed_and_computed_again(capsys: pytest.CaptureFixture[str]) -> None:
    first = run(make_rows(20))
    flip(list_parts()[1], 30)
    again = run(make_rows(20))
    assert again.summary.computed == 4
    assert again.values == first.values
    assert capsys.readouterr().out.count("is damaged and set aside") == 1


def test_a_flip_of_any_byte_is_noticed_and_changes_no_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # for speed
    rows = make_rows(3)
    first = run(rows, batch_size=3)
    (part,) = list_parts()
    data = part.read_bytes()
    with open_ledger("toy", COLUMNS, code=[make_rows], inputs="f") as ledger:
        folder = ledger.folder
    for place in range(-2, len(data)):
        for path in folder.glob("part-*"):
            path.unlink()
        damaged = bytearray(data)
        if place < 0:
            damaged = damaged[: place * 40]  # cut off
        else:
            damaged[place] ^= 1 << place % 8
        part.write_bytes(damaged)
        ledger = Ledger(folder, COLUMNS)
        again = map_rows(ledger, rows, square, batch_size=3, label="toy")
        assert (again.values, again.rejected, again.summary.computed) == (first.values, first.rejected, 3), place
        assert capsys.readouterr().out.count("set aside") == 1, place


def test_finished_parts_are_merged_and_the_rows_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(make_rows(50), batch_size=1)
    assert [parse_range(path) for path in list_parts()] == [(0, 15), (16, 31), (32, 47), (48, 48), (49, 49)]
    monkeypatch.setattr(ledger_module, "FAN_IN", 3)
    shutil.rmtree(work_dir())
    small = run(make_rows(50), batch_size=1)
    assert [parse_range(path) for path in list_parts()] == [(0, 26), (27, 35), (36, 44), (45, 47), (48, 48), (49, 49)]
    assert (small.values, small.rejected) == (first.values, first.rejected)
    again = run(make_rows(50), compute=lambda rows: pytest.fail("computed again"), batch_size=1)
    assert (again.values, again.rejected) == (first.values, first.rejected)


def test_parts_of_the_largest_size_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run(make_rows(15), batch_size=1)
    monkeypatch.setattr(ledger_module, "MAX_PART_BYTES", 15 * list_parts()[0].stat().st_size)
    run(make_rows(20), batch_size=1)
    assert len(list_parts()) == 20


@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_a_kill_leaves_beside_a_merged_part_is_cleaned_at_the_next_start(is_damaged: bool) -> None:
    first = run(make_rows(15), batch_size=1)
    sources = {path: path.read_bytes() for path in list_parts()}
    run(make_rows(16), batch_size=1)
    (merged,) = list_parts()
    for path, data in sources.items():  # a kill came before they were removed
        path.write_bytes(data)
    if is_damaged:
        flip(merged, 100)
    again = run(make_rows(16), batch_size=1)
    assert again.summary.computed == int(is_damaged)  # the sources have all rows but the last
    assert again.rejected == first.rejected
    assert {key: again.values[key] for key in first.values} == first.values
    assert [parse_range(path) for path in list_parts()] == ([(0, 16)] if is_damaged else [(0, 15)])


def test_damage_is_not_merged_into_a_new_seal(capsys: pytest.CaptureFixture[str]) -> None:
    first = run(make_rows(15), batch_size=1)
    flip(list_parts()[4], 40)
    again = run(make_rows(16), batch_size=1)
    assert again.summary.computed == 2
    assert {key: again.values[key] for key in first.values} == first.values
    assert capsys.readouterr().out.count("set aside") == 1


def test_values_are_read_in_key_order_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "WINDOW_BYTES", 200)
    run(make_rows(40)[::3])
    with open_ledger("toy", COLUMNS, code=[make_rows], inputs="f") as ledger:
        result = map_rows(ledger, make_rows(40), square, batch_size=4, label="toy")
        tables = list(result.iterate("name"))
    assert len(tables) > 5
    joined = pa.concat_tables(tables)
    assert joined["name"].to_pylist() == result.keys == sorted(result.keys)
    assert joined["square"].to_pylist() == pytest.approx([int(key[1:]) ** 2 / 3 for key in result.keys])
    with pytest.raises(AssertionError, match="while their ledger is open"):
        next(result.iterate("name"))


def test_columns_and_dicts_are_stored_alike() -> None:
    columns = pa.schema([("vector", pa.binary()), ("word", pa.string())])
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    words = ["a", "b", "", "d"]

    def by_column(rows: list[Row]) -> Columns:
        return Columns({"vector": vectors, "word": words}, {2: "wordless."})

    def by_row(rows: list[Row]) -> list[dict | Rejection]:
        return [{"vector": v.tobytes(), "word": w} if w else Rejection("wordless.") for v, w in zip(vectors, words, strict=True)]

    results = []
    for inputs, compute in (("columns", by_column), ("rows", by_row)):
        with open_ledger("toy", columns, code=[make_rows], inputs=inputs) as ledger:
            results.append(map_rows(ledger, make_rows(3), compute, batch_size=4, label="toy").load())
    assert results[0].values == results[1].values == {"k000": by_row([])[0], "k001": by_row([])[1]}
    assert results[0].rejected == results[1].rejected == {"k002": "wordless."}
    with (
        open_ledger("toy", columns, code=[make_rows], inputs="short") as ledger,
        pytest.raises(AssertionError, match="4 rows went in"),
    ):
        map_rows(ledger, make_rows(3), lambda rows: Columns({"vector": vectors[:3], "word": words}), batch_size=4, label="toy")


def test_other_columns_are_another_ledger() -> None:
    run(make_rows(4))
    with open_ledger("toy", pa.schema([("cube", pa.float32())]), code=[make_rows], inputs="f") as ledger:
        result = map_rows(ledger, make_rows(4), lambda rows: [{"cube": 1.0}] * len(rows), batch_size=4, label="toy").load()
    assert result.values["k001"] == {"cube": 1.0}


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
