"""Rows of CSV files: of official ones, whose form is known, and of those that people made, whose form `csv_forms.py` finds."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.problems import DataError, Problems
from pipeline.data.raw_files import MAX_LINE_BYTES, check_length, decode_text, read_lines
from pipeline.data.table_headers import find_columns, list_likely_columns
from pipeline.data.values import clean_value, normalise_name

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
ESCAPED = re.compile(r'\\(["\\])')
Row = tuple[int, dict[str, str]]


@contextlib.contextmanager
def allow_long_fields() -> Iterator[None]:
    """Let fields be long while people's files are read: a page of HTML in a column that nobody asked for; `check_length` bounds the others."""
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@dataclass(frozen=True)
class CsvForm:
    """How a CSV file is written; `escapes`: a quotation mark in a field is written backslash-quote, and not twice."""

    separator: str = ","
    quotechar: str = '"'
    escapes: bool = False
    encoding: str = "utf-8"
    skipped_lines: int = 0  # before the header
    spaced: bool = False  # there may be spaces between a separator and a quotation mark

    def parse(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Return a reader of rows, with the line that it has come to as `line_num`."""
        if self.escapes:
            lines = (ESCAPED.sub(lambda match: '""' if match[1] == '"' else "\\", line) for line in lines)
        return csv.reader(lines, delimiter=self.separator, quotechar=self.quotechar, skipinitialspace=self.spaced, strict=True)


def read_csv(path: Path, required: Sequence[str], optional: Sequence[str], problems: Problems, *, whole: bool = False) -> Iterator[Row]:
    """Yield (number of the row's first line, its values as they are) of an official file: UTF-8, commas, a header row.

    `whole`: the format ends every line with a line break, so a last line without one was cut off.
    """
    lines = (decode_text(line, path, number, problems) + "\n" for number, line in read_lines(path, problems, whole=whole))
    yield from read_form(path, CsvForm(), lines, required, optional, problems)


def read_any_csv(path: Path, form: CsvForm, required: Sequence[str], optional: Sequence[str], problems: Problems) -> Iterator[Row]:
    """Yield (number of the row's first line, its cleaned values) of a file of any form; words that mean "missing" are empty."""
    for line, row in read_form(path, form, read_any_lines(path, form, problems), required, optional, problems):
        yield line, {name: clean_value(value) for name, value in row.items()}


def read_any_lines(path: Path, form: CsvForm, problems: Problems) -> Iterator[str]:
    """Yield the lines with their ends (LF, CRLF or CR) from the header on; memory is bounded by MAX_LINE_BYTES."""
    errors = "surrogateescape" if form.encoding.startswith("utf-8") else "replace"
    with path.open(encoding=form.encoding, errors=errors, newline="") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES and line[-1] not in "\r\n":
                raise DataError(f"{path}, line {number:,}: the line is longer than the allowed {MAX_LINE_BYTES:,} characters.")
            if "\0" in line:
                problems.add(path, number, "the line holds NUL bytes, so this is no text file, or a damaged one.")
                line = "\n"
            elif not line.isascii():
                line = check_characters(line, path, number, form, problems)
            if number > form.skipped_lines:
                yield line


def check_characters(line: str, path: Path, number: int, form: CsvForm, problems: Problems) -> str:
    """Return the line; bytes that are not of the encoding are a problem and become replacement characters."""
    if form.encoding.startswith("utf-8"):
        return decode_text(line.encode("utf-8", errors="surrogateescape"), path, number, problems)
    if "\ufffd" in line:
        problems.add(path, number, f"a character is not {form.encoding}; save the whole file in the encoding UTF-8.")
    return line


def read_form(path: Path, form: CsvForm, lines: Iterator[str], required: Sequence[str], optional: Sequence[str], problems: Problems) -> Iterator[Row]:
    """Yield (number of the row's first line, values of the wanted columns); rows without any value are passed over."""
    with allow_long_fields():
        yield from read_long_form(path, form, lines, required, optional, problems)


def read_long_form(
    path: Path, form: CsvForm, lines: Iterator[str], required: Sequence[str], optional: Sequence[str], problems: Problems
) -> Iterator[Row]:
    """Do the work of `read_form`."""
    reader = form.parse(lines)
    started = 1
    try:
        header = next((row for row in reader if not is_empty(row)), [])
        columns = find_columns(header, required, optional, path, separator=SEPARATORS.get(form.separator, repr(form.separator)))
        for sentence in list_likely_columns(header, columns, optional):
            problems.note(path, sentence)
        while True:
            started = reader.line_num + form.skipped_lines + 1
            row = next(reader, None)
            if row is None:
                return
            if len(row) != len(header) and not fits(row, header, path, started, form, problems):
                continue
            values = {name: row[place] for name, place in columns.items()}
            if is_empty(values.values()) and is_empty(row):
                continue
            if is_header(row, header):
                problems.note(path, f"the header is there again in line {started:,}, as where files were put together; it is passed over.")
                continue
            yield started, check_length(values, path, started, problems)
    except csv.Error as error:
        problems.add(
            path,
            started,
            f"from here on the file is no valid CSV ({error}); a quotation mark may be unclosed, or the file cut off. "
            f"In a quoted field, a quotation mark is written twice.",
        )


def fits(row: list[str], header: list[str], path: Path, line: int, form: CsvForm, problems: Problems) -> bool:
    """Say whether a row that is longer or shorter than the header differs by empty cells or unnamed columns alone; if not, that is a problem."""
    if is_empty(row):
        return False
    named = max(place for place, name in enumerate(header) if name.strip()) + 1
    if len(row) >= named and is_empty(row[len(header) :]):
        return True
    name = SEPARATORS.get(form.separator, repr(form.separator))
    problems.add(
        path,
        line,
        f"the row has {len(row)} {name}-separated fields, but the header has {len(header)}; a text that holds a {name} "
        f"must be in quotation marks, and every row needs the separators of its empty fields.",
    )
    return False


def is_header(row: Sequence[str], header: Sequence[str]) -> bool:
    """Say whether a row is the header once more, perhaps behind another byte order mark."""
    return len(row) == len(header) and row[-1] == header[-1] and list(map(normalise_name, row)) == list(map(normalise_name, header))


def is_empty(row: Iterable[str]) -> bool:
    """Say whether all of these cells are empty."""
    return not any(map(str.strip, row))
