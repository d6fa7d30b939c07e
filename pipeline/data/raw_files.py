"""Read raw text, CSV and Parquet files that nobody has checked: bounded sizes, UTF-8 without NUL or BOM, every problem with its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.problems import DataError, Problems, quote

MAX_LINE_BYTES = 16 * 1024 * 1024  # of a text line; POG's longest click list has far less
MAX_TEXT_CHARS = 10_000  # of one field; a longer title is no title
MAX_NAME_BYTES = 250  # of a file's name; file systems allow 255
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def require_file(path: Path) -> Path:
    """Return `path`; DataError if it is absent or a folder."""
    if path.is_dir():
        raise DataError(f"{path} is a folder, but a file must be there.")
    if not path.is_file():
        raise DataError(f"{path} does not exist; the README's section on the data set says where it comes from.")
    return path


def require_folder(path: Path) -> Path:
    """Return `path`; DataError if it is absent or a file."""
    if path.is_file():
        raise DataError(f"{path} is a file, but a folder must be there.")
    if not path.is_dir():
        raise DataError(f"{path} does not exist; the README's section on the data set says what belongs there.")
    return path


def find_table(folder: Path, stem: str) -> Path | None:
    """Return `<stem>.csv` or `<stem>.parquet`, None if there is neither; DataError if there are both."""
    found = [path for suffix in (".csv", ".parquet") if (path := folder / f"{stem}{suffix}").exists()]
    if len(found) == 2:
        raise DataError(f"{folder} holds both {found[0].name} and {found[1].name}, but only one of them may be there.")
    return found[0] if found else None


def read_rows(path: Path, required: tuple[str, ...], optional: tuple[str, ...], problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line or row number, values as text) of a CSV or Parquet file; absent optional columns are left out, others ignored."""
    reader = read_parquet if path.suffix == ".parquet" else read_csv
    yield from reader(require_file(path), required, optional, problems)


def read_lines(path: Path, problems: Problems, *, whole: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its end); lines with NUL bytes are problems and left out. Memory is bounded by MAX_LINE_BYTES.

    `whole`: the format ends every line with a line break, so a last line without one was cut off.
    """
    with require_file(path).open("rb") as file:
        _refuse_byte_order_mark(path, file.read(3))
        file.seek(0)
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if line[-1:] == b"\n":
                line = line[:-2] if line[-2:-1] == b"\r" else line[:-1]
            elif len(line) == MAX_LINE_BYTES:
                raise DataError(f"{path}, line {number:,}: the line is longer than the allowed {MAX_LINE_BYTES:,} bytes.")
            elif whole:
                problems.add(path, number, "the file ends in the middle of a line, so a part of it is missing.")
            if b"\0" in line:
                problems.add(path, number, "the line holds NUL bytes, so this is no text file, or a damaged one.")
                continue
            yield number, line
    if not number:
        problems.add(path, None, "the file is empty.")


def decode_text(line: bytes, path: Path, number: int, problems: Problems) -> str:
    """Decode UTF-8; bytes that are none are a problem and become replacement characters."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = line[error.start : error.start + 1].hex()
        problems.add(path, number, f"byte {error.start + 1} (0x{bad}) is not UTF-8; save the whole file in the encoding UTF-8.")
        return line.decode("utf-8", errors="replace")


def is_utf8(line: bytes, path: Path, number: int, problems: Problems) -> bool:
    """Say whether a line is UTF-8; if not, that is a problem."""
    before = problems.count
    decode_text(line, path, number, problems)
    return problems.count == before


def read_csv(
    path: Path, required: tuple[str, ...], optional: tuple[str, ...], problems: Problems, *, whole: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (number of the row's first line, its values) of a comma-separated file with a header row."""
    lines = (decode_text(line, path, number, problems) + "\n" for number, line in read_lines(path, problems, whole=whole))
    reader = csv.reader(lines, strict=True)
    started = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, required)
        while True:
            started = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if not row:  # an empty line
                continue
            if len(row) != len(header):
                problems.add(path, started, f"the row has {len(row)} comma-separated fields, but the header has {len(header)}.")
                continue
            values = dict(zip(header, row, strict=True))
            yield started, _check_lengths({name: values[name] for name in (*required, *optional) if name in values}, path, started, problems)
    except csv.Error as error:
        problems.add(path, started, f"the row is no valid CSV ({error}); a quotation mark may be unclosed, or the file cut off.")


def read_parquet(path: Path, required: tuple[str, ...], optional: tuple[str, ...], problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number from 1, values as text); whole numbers become their digits, nulls empty texts."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_header(path, schema.names, required)
            columns = [name for name in (*required, *optional) if name in schema.names]
            for name in columns:
                _check_type(path, name, schema.field(name).type)
            number = 0
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    texts = {name: "" if row[name] is None else str(row[name]) for name in columns}
                    if any("\0" in text for text in texts.values()):
                        problems.add(path, number, "a text holds NUL characters.", unit="row")
                    yield number, _check_lengths(texts, path, number, problems, unit="row")
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}).") from error


def resolve_inside(folder: Path, name: str) -> Path | None:
    """Return `folder / name`, or None if the name would leave the folder (absolute, `..`) or cannot be a path."""
    parts = Path(name).parts
    if not parts or "\0" in name or Path(name).is_absolute() or ".." in parts or max(len(part.encode()) for part in parts) > MAX_NAME_BYTES:
        return None
    return folder / name


def _refuse_byte_order_mark(path: Path, start: bytes) -> None:
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            raise DataError(f"{path}, line 1: the file starts with a {encoding} byte order mark; save it as UTF-8 without BOM.")


def _check_header(path: Path, header: list[str], required: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        found = quote(", ".join(header)) if header else "empty"
        raise DataError(
            f"{path}, line 1: the column `{missing[0]}` is missing; needed are {', '.join(required)}, separated by commas, but the header is {found}."
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: the column {quote(twice[0])} is there twice.")


def _check_type(path: Path, name: str, dtype: pa.DataType) -> None:
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    if name == "timestamp" and (pa.types.is_floating(dtype) or pa.types.is_temporal(dtype)):
        return
    allowed = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer, pa.types.is_null)
    if not any(check(dtype) for check in allowed):
        raise DataError(f"{path}: column `{name}` is of type {dtype}, but it must hold texts or whole numbers.")


def _check_lengths(values: dict[str, Any], path: Path, number: int, problems: Problems, *, unit: str = "line") -> dict[str, str]:
    for name, value in values.items():
        if len(value) > MAX_TEXT_CHARS:
            problems.add(path, number, f"`{name}` has {len(value):,} characters, more than the allowed {MAX_TEXT_CHARS:,}.", unit=unit)
            values[name] = value[:MAX_TEXT_CHARS]
    return values
