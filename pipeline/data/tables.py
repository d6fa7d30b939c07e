"""Tables that people made: `<stem>.csv` (any encoding, separator and quotation marks) or `<stem>.parquet`, read as texts row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.data.csv_files import Row, read_any_csv
from pipeline.data.csv_forms import find_form
from pipeline.data.file_kinds import PARQUET, read_kind
from pipeline.data.parquet_files import read_parquet
from pipeline.data.problems import DataError, Problems, quote
from pipeline.data.raw_files import require_file

SUFFIXES = (".csv", ".tsv", ".parquet")
OTHER_SUFFIXES = (".xlsx", ".xls", ".ods", ".numbers", ".json", ".jsonl", ".txt", ".gz", ".zip")


def find_table(folder: Path, stem: str) -> Path | None:
    """Return `<stem>.csv`, `.tsv` or `.parquet` in any case, None if there is none of them; DataError if there are two."""
    files = sorted(path for path in folder.iterdir() if path.name.casefold().startswith(f"{stem}.")) if folder.is_dir() else []
    found = [path for path in files if path.name.casefold() in [f"{stem}{suffix}" for suffix in SUFFIXES]]
    if len(found) > 1:
        raise DataError(f"{folder} holds both {found[0].name} and {found[1].name}, but only one of them may be there.")
    other = next((path for path in files if path.suffix.lower() in OTHER_SUFFIXES), None)
    if other and not found:
        raise DataError(f"{folder} holds {quote(other.name)}, but the table must be a CSV or Parquet file: save it as {stem}.csv.")
    return found[0] if found else None


def read_rows(path: Path, required: Sequence[str], optional: Sequence[str], problems: Problems) -> Iterator[Row]:
    """Yield (line or row number, cleaned values) of a CSV or Parquet file; absent optional columns are left out, others ignored.

    A value is a text without space around it, its letters composed (NFC), and empty where it is a word that means "missing".
    Numbers are their digits, times of Parquet are ISO dates.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    check_kind(path, PARQUET if is_parquet else None)
    if is_parquet:
        rows = read_parquet(path, required, optional, problems)
    else:
        rows = read_any_csv(path, find_form(path, required or optional, problems), required, optional, problems)
    number = 0
    for number, row in enumerate(rows, start=1):  # noqa: B007
        yield row
    problems.count_rows(path, number)


def check_kind(path: Path, wanted: str | None) -> None:
    """Raise DataError for a folder of parts and for a file that is something else than its name says."""
    if path.is_dir():
        raise DataError(f"{path} is a folder, perhaps of parts as Spark writes them, but a table must be one file; put the parts together.")
    kind = read_kind(require_file(path))
    if kind and kind != wanted:
        raise DataError(f"{path} is {kind}, but it must be {wanted or 'a CSV file'}; export the table as one.")
