"""Parquet as other programs write it. Run: python -m pytest tests/pipeline/data/test_parquet_files.py"""

from __future__ import annotations

import datetime as dt
import decimal
import re
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.problems import DataError, Problems
from pipeline.data.tables import read_rows

NAN = float("nan")


def read(path: Path, table: pa.Table, **options: object) -> tuple[list[dict[str, str]], Problems]:
    pq.write_table(table, path, **options)
    problems = Problems()
    rows = list(read_rows(path, ("item_id",), ("text", "timestamp", "category"), problems))
    assert [number for number, _ in rows] == list(range(1, len(rows) + 1))
    return [row for _, row in rows], problems


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([b"007", b"caf\xc3\xa9"]), ["007", "café"]),
        (pa.array([b"007", b"008"], pa.large_binary()), ["007", "008"]),
        (pa.array([b"007", b"008"], pa.binary(3)), ["007", "008"]),
        (pa.array(["007", None], pa.large_string()), ["007", ""]),
        (pa.array(["007", "cafe\u0301"], pa.string_view()), ["007", "café"]),
        (pa.array(["007", "008"]).dictionary_encode(), ["007", "008"]),
        (pa.array([b"007", b"008"]).dictionary_encode(), ["007", "008"]),
        (pa.array([7, None]), ["7", ""]),
        (pa.array([2**63, 2**64 - 1], pa.uint64()), [str(2**63), str(2**64 - 1)]),
        (pa.array([7.0, NAN]), ["7", ""]),
        (pa.array([7.0, None], pa.float32()), ["7", ""]),
        (pa.array([decimal.Decimal("7.00"), decimal.Decimal("12345678901234567890")], pa.decimal128(38, 2)), ["7", "12345678901234567890"]),
        (pa.array([uuid.UUID(int=7).bytes, None], pa.uuid()), [str(uuid.UUID(int=7)), ""]),
    ],
)
def test_ids_of_any_plain_type_are_their_texts(column: pa.Array, texts: list[str], tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "items.parquet", pa.table({"item_id": column}))
    assert [row["item_id"] for row in rows] == texts
    assert problems.found == []


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.nulls(2), ["", ""]),
        (pa.array([None, None], pa.float64()), ["", ""]),
        (pa.array([NAN, NAN]), ["", ""]),
        (pa.array(["NULL", "nan"]), ["", ""]),
        (pa.array([["cups", "plates"], []]), ["cups, plates", ""]),
        (pa.array([["cups", None, b"\xc3\xa9".decode()], None]), ["cups, é", ""]),
        (pa.array([[1, 2], [3]], pa.large_list(pa.int64())), ["1, 2", "3"]),
    ],
)
def test_categories_of_any_plain_type_are_their_texts(column: pa.Array, texts: list[str], tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "items.parquet", pa.table({"item_id": ["a", "b"], "category": column}))
    assert [row["category"] for row in rows] == texts
    assert problems.found == []


NOON = dt.datetime(2024, 3, 1, 12, tzinfo=dt.UTC)
NOON_ISO = "2024-03-01T12:00:00+00:00"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([NOON], pa.timestamp("s", "UTC")), NOON_ISO),
        (pa.array([NOON], pa.timestamp("ms")), NOON_ISO),
        (pa.array([NOON], pa.timestamp("us", "Europe/Berlin")), NOON_ISO),
        (pa.array([int(NOON.timestamp()) * 10**9 + 123_456_789], pa.timestamp("ns")), "2024-03-01T12:00:00.123456+00:00"),
        (pa.array([int(NOON.timestamp()) * 10**9 + 1], pa.timestamp("ns", "tzutc()")), NOON_ISO),
        (pa.array([dt.date(2024, 3, 1)], pa.date32()), "2024-03-01T00:00:00+00:00"),
        (pa.array([dt.date(2024, 3, 1)], pa.date64()), "2024-03-01T00:00:00+00:00"),
        (pa.array([dt.date(1, 1, 1)], pa.date32()), "0001-01-01T00:00:00+00:00"),
        (pa.array([decimal.Decimal("1709294400.500")], pa.decimal128(20, 3)), "1709294400.500"),
        (pa.array([1709294400.5]), "1709294400.5"),
        (pa.array([1709294400]), "1709294400"),
        (pa.array([1.7092944e18]), "1709294400000000000"),
        (pa.array([dt.datetime(9999, 12, 31, 23, 59, 59)], pa.timestamp("us")), "9999-12-31T23:59:59+00:00"),
        (pa.array(["2024-03-01 12:00 UTC"]), "2024-03-01 12:00 UTC"),
        (pa.array([None], pa.timestamp("ns")), ""),
    ],
)
def test_times_of_any_type_are_dates_or_digits(column: pa.Array, text: str, tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "items.parquet", pa.table({"item_id": ["a"], "timestamp": column}))
    assert rows == [{"item_id": "a", "timestamp": text}]
    assert problems.found == []


@pytest.mark.parametrize(
    ("name", "column", "sentence"),
    [
        (
            "timestamp",
            pa.array([0, 1709294400000], pa.timestamp("s")),
            "row 2: `timestamp` is 1,709,294,400,000,000 ms since 1970, which is no year from 1 to 9999",
        ),
        ("timestamp", pa.array([0, 2**62], pa.timestamp("us", "tzutc()")), "row 2: `timestamp` is 4,611,686,018,427,387,904 us since 1970"),
        ("item_id", pa.array([1.0, 1.5]), "row 2: `item_id` is 1.5, but it must be a text or a whole number"),
        ("item_id", pa.array([1.0, 2.0**60]), "row 2: `item_id` is 1152921504606846976 in a column of floats, which keep 15 digits"),
        ("item_id", pa.array([b"a", b"\xff\xfe"]), r"row 2: `item_id` is \"b'\\\\xff\\\\xfe'\", which is no UTF-8 text"),
        ("text", pa.array(["a", "b\0"]), "row 2: `text` holds NUL characters"),
        ("text", pa.array(["a", "x" * 10_001]), "row 2: `text` has 10,001 characters, more than the allowed 10,000"),
    ],
)
def test_a_bad_cell_is_named_with_file_column_row_and_value(name: str, column: pa.Array, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    _, problems = read(path, pa.table({"item_id": ["a", "b"]} | {name: column}))
    assert len(problems.found) == 1
    assert re.match(rf"{re.escape(str(path))}, {sentence}", problems.found[0]), problems.found[0]


@pytest.mark.parametrize("moment", [dt.datetime(1, 1, 1), dt.datetime(1600, 1, 1), dt.datetime(9999, 12, 31)])
def test_old_96_bit_times_of_any_year_are_kept(moment: dt.datetime, tmp_path: Path) -> None:
    table = pa.table({"item_id": ["a"], "timestamp": pa.array([moment], pa.timestamp("us"))})
    rows, _ = read(tmp_path / "items.parquet", table, use_deprecated_int96_timestamps=True)
    assert rows == [{"item_id": "a", "timestamp": f"{moment.isoformat()}+00:00"}]


def test_a_row_whose_id_is_a_problem_is_named_once_and_not_as_one_without_an_id(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": pa.array([b"a", b"\xff", b"c"]), "text": ["x", "y", "z\0"]}), path)
    problems = Problems()
    rows = list(read_rows(path, ("item_id",), ("text",), problems))
    assert rows == [(1, {"item_id": "a", "text": "x"}), (3, {"item_id": "c", "text": ""})]
    assert problems.count == 2


def test_a_text_that_is_no_utf8_is_named_with_its_row(tmp_path: Path) -> None:
    text = pa.array([b"fine", b"caf\xe9"]).view(pa.string())
    _, problems = read(tmp_path / "items.parquet", pa.table({"item_id": ["a", "b"], "text": text}))
    assert [line.partition(", ")[2] for line in problems.found] == [
        r"""row 2: `text` is "b'caf\\xe9'", which is no UTF-8 text; write it as a string column."""
    ]


@pytest.mark.parametrize(
    ("name", "column", "sentence"),
    [
        ("item_id", pa.array([True]), "column `item_id` is of type bool, but it must hold texts or whole numbers"),
        ("item_id", pa.array([["a"]]), "column `item_id` is of type list<element: string>, but"),
        ("text", pa.array([{"bytes": b"", "path": "x"}]), "column `text` is of type struct<"),
        ("timestamp", pa.array([dt.time(1)]), r"column `timestamp` is of type time64\[us\], but it must hold numbers, dates or times"),
    ],
)
def test_a_column_of_another_type_is_named(name: str, column: pa.Array, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / "items.parquet", pa.table({"item_id": ["a"]} | {name: column}))


def test_a_damaged_page_and_a_file_cut_off_are_sentences_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    read(path, pa.table({"item_id": [f"item {n}" for n in range(1_000)]}), compression="zstd", write_page_checksum=True)
    whole = path.read_bytes()
    for damaged in (whole[:100] + bytes(50) + whole[150:], whole[:-20], b"", b"PAR1"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"^{re.escape(str(path))} is not a readable Parquet file \(.+\); it may be damaged or cut off"):
            list(read_rows(path, ("item_id",), (), Problems()))


def test_a_codec_that_cannot_be_read_is_a_sentence_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "items.parquet"
    read(path, pa.table({"item_id": ["a"]}))

    def refuse(*arguments: object, **options: object) -> None:
        raise pa.ArrowNotImplementedError("Support for codec 'lzo' not built")

    monkeypatch.setattr(pq.ParquetFile, "__init__", refuse)
    with pytest.raises(DataError, match=r"items\.parquet is not a readable Parquet file \(Support for codec 'lzo' not built\)"):
        list(read_rows(path, ("item_id",), (), Problems()))
