"""Rows of Parquet files as anybody writes them, as texts: ids as digits, times as ISO dates, lists joined, nulls empty.

Times are read as integers with the schema's unit, so that no time zone's name and no year beyond 9999 matters to the reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.problems import DataError, Problems, quote
from pipeline.data.raw_files import check_length
from pipeline.data.table_headers import find_columns, list_likely_columns
from pipeline.data.values import clean_value

BATCH_ROWS = 8_192
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_SECOND, LAST_SECOND = (int((moment.replace(tzinfo=UTC) - EPOCH).total_seconds()) for moment in (datetime.min, datetime.max))
EXACT = 2**53  # of a larger float the last digits are lost
TIME_COLUMN = "timestamp"
FRACTIONS = (TIME_COLUMN, "strength")  # columns of numbers that need not be whole
types = pa.types


class BadValue(ValueError):
    """A cell that cannot be a text; the message goes on after the column's name."""


def read_parquet(path: Path, required: Sequence[str], optional: Sequence[str], problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number from 1, cleaned values); a bad cell is a problem with its row, a bad file or column a DataError."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, coerce_int96_timestamp_unit="us") as file:
            schema = file.schema_arrow
            columns = find_columns(schema.names, required, optional, path)
            for sentence in list_likely_columns(schema.names, columns, optional):
                problems.note(path, sentence)
            for name, place in columns.items():
                check_type(path, name, schema.field(place).type, is_needed=name in required)
            yield from read_batches(path, file, columns, len(required), problems)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).replace(str(path), "").split())
        raise DataError(
            f"{path} is not a readable Parquet file ({reason}); it may be damaged or cut off, or its compression is not known."
        ) from error


def read_batches(
    path: Path, file: pq.ParquetFile, columns: dict[str, int], num_needed: int, problems: Problems
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of all row groups but those with a problem in the first `num_needed` columns; memory holds BATCH_ROWS of them."""
    number = 0
    names = [file.schema_arrow.names[place] for place in columns.values()]
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(dict.fromkeys(names))):
        texts = [read_column(path, name, batch.column(source), number, problems) for name, source in zip(columns, names, strict=True)]
        for values in zip(*texts, strict=True):
            number += 1
            if None not in values[:num_needed]:
                texts_of_row = {name: value or "" for name, value in zip(columns, values, strict=True)}
                yield number, check_length(texts_of_row, path, number, problems)


def check_type(path: Path, name: str, dtype: pa.DataType, *, is_needed: bool) -> None:
    """Raise DataError if a column's type cannot be read as a text, whatever it holds."""
    dtype = get_plain_type(dtype)
    if types.is_list(dtype) or types.is_large_list(dtype) or types.is_list_view(dtype):
        is_known = not is_needed and name != TIME_COLUMN and is_scalar(get_plain_type(dtype.value_type))
    else:
        is_known = is_scalar(dtype) or (name == TIME_COLUMN and (types.is_date(dtype) or types.is_timestamp(dtype)))
    if not is_known:
        allowed = "numbers, dates or times" if name == TIME_COLUMN else "texts or whole numbers"
        raise DataError(f"{path}: column `{name}` is of type {dtype}, but it must hold {allowed}.")


def get_plain_type(dtype: pa.DataType) -> pa.DataType:
    """Return the type of a dictionary's values, or that in which an extension type is stored."""
    if types.is_dictionary(dtype):
        return get_plain_type(dtype.value_type)
    return dtype.storage_type if isinstance(dtype, pa.BaseExtensionType) and not str(dtype).endswith("uuid>") else dtype


def is_scalar(dtype: pa.DataType) -> bool:
    """Say whether values of a type can be one text each."""
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary, types.is_binary_view)
    others = (types.is_fixed_size_binary, types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    return any(check(dtype) for check in (*texts, *others)) or isinstance(dtype, pa.BaseExtensionType)


def read_column(path: Path, name: str, column: pa.Array, before: int, problems: Problems) -> list[str | None]:
    """Return the cleaned texts of a batch's column, None where a cell is a problem; `before` rows came before it."""
    texts = []
    for number, value in enumerate(list_values(column), start=before + 1):
        try:
            text = value if isinstance(value, str) else convert(value, column.type, is_fraction=name in FRACTIONS)
            if "\0" in text:
                raise BadValue("holds NUL characters")
        except BadValue as error:
            problems.add(path, number, f"`{name}` {error}.")
            text = None
        texts.append(text if text is None else clean_value(text))
    return texts


def list_values(column: pa.Array) -> list[Any]:
    """Return Python values; texts that are no UTF-8 come as bytes, times as integers."""
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_timestamp(column.type) or types.is_date64(column.type):
        column = column.view(pa.int64())
    elif types.is_date32(column.type):
        column = column.view(pa.int32())
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return column.cast(pa.large_binary()).to_pylist() if not types.is_list(column.type) else [read_list(value) for value in column]


def read_list(value: pa.Scalar) -> list[Any] | None:
    """Return a list's values, texts as bytes."""
    return None if value.values is None else value.values.cast(pa.large_binary()).to_pylist()


def convert(value: Any, dtype: pa.DataType, *, is_fraction: bool) -> str:
    """Return one cell as a text; BadValue says why it has none."""
    dtype = get_plain_type(dtype)
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(filter(None, (clean_value(convert(part, dtype.value_type, is_fraction=False)) for part in value)))
    if isinstance(value, bytes):
        return decode(value)
    if types.is_timestamp(dtype):
        return format_time(value, dtype.unit)
    if types.is_date(dtype):
        return format_time(value * 86_400 if types.is_date32(dtype) else value, "s" if types.is_date32(dtype) else "ms")
    return (
        str(value) if isinstance(value, str) else format_number(value, is_fraction=is_fraction) if isinstance(value, float | Decimal) else str(value)
    )


def decode(value: bytes) -> str:
    """Return a text that was written as bytes."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadValue(f"is {quote(value)}, which is no UTF-8 text; write it as a string column") from error


def format_time(value: int, unit: str) -> str:
    """Return an ISO date of ticks since 1970; digits finer than a microsecond are dropped."""
    if not FIRST_SECOND <= value // TICKS[unit] <= LAST_SECOND:
        raise BadValue(f"is {value:,} {unit} since 1970, which is no year from 1 to 9999; the column's unit {unit} does not fit its values")
    return (EPOCH + timedelta(microseconds=value * 10**6 // TICKS[unit])).isoformat()


def format_number(value: float | Decimal, *, is_fraction: bool) -> str:
    """Return a number as its digits; an id that became a float has lost nothing if it is whole and small enough."""
    if math.isnan(value):
        return ""
    if is_fraction:
        is_long = isinstance(value, float) and value.is_integer()  # nanoseconds in floats, which repr() writes as 1.7e+18
        return str(int(value)) if is_long else format(value, "f") if isinstance(value, Decimal) else repr(value)
    if math.isinf(value) or value != int(value):
        raise BadValue(f"is {value}, but it must be a text or a whole number")
    if isinstance(value, float) and abs(value) > EXACT:
        raise BadValue(f"is {value:.0f} in a column of floats, which keep 15 digits; write the column as texts or integers")
    return str(int(value))
