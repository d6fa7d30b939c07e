"""CSV files that we write for people, who open them in a spreadsheet: a text that would run there as a formula gets an apostrophe before it.

Titles, ids and URLs are other people's words, and a cell that begins with = + - @ (or with a tab or a line break, which spreadsheets
skip) is a formula to a spreadsheet. Numbers stay numbers. `read_csv` is our own reader of these files, and gives the texts back as they were.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.files import write_bytes

FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four: full width, which some spreadsheets read as = + - @
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?|[+-]?(inf|nan)|-")  # a lone - stands for no value


def write_csv(path: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV with the given columns, atomically; floats are written with 6 significant digits."""
    lines = [_format_row(columns), *(_format_row([_format_cell(row.get(name, "")) for name in columns]) for row in rows)]
    write_bytes(path, "".join(lines).encode(errors="backslashreplace"))


def read_csv(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read a file of `write_csv`, which a person may have edited; ValueError if it is no such file or lacks one of the columns."""
    remedy = "remove it, and the command that writes it makes it anew"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{path} has no column `{missing[0]}`; {remedy}.")
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(f"{path}, line {reader.line_num:,}: the row has not as many cells as the header; {remedy}.")
                rows.append({name: restore_text(cell) for name, cell in row.items()})
            return rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no readable CSV file ({error}); {remedy}.") from error


def neutralise_text(text: str) -> str:
    """Return a text that no spreadsheet runs: with an apostrophe before it where it begins like a formula and is no number."""
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def restore_text(cell: str) -> str:
    """Return the text that `neutralise_text` made `cell` of."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _format_row(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # with another line end, a lone \r in a text would go unquoted
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def _format_cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return neutralise_text(value) if isinstance(value, str) else value
