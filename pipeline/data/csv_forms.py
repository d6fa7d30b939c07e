"""Find how a CSV file is written: as spreadsheets save it in any country, as databases export it, or by hand.

The header is the first row of the first SKIPPED_ROWS that names all columns that are needed: a title or a comment may stand above it.
The separator is the one that splits the header into the columns that are needed (or into most columns), or what a first line `sep=;` says.
Quotation marks are the ones with which most of the first rows have as many fields as the header.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.data.csv_files import SEPARATORS, CsvForm, allow_long_fields, is_empty
from pipeline.data.encodings import find_encoding
from pipeline.data.problems import Problems
from pipeline.data.values import normalise_name, simplify

SAMPLE_CHARS = 256 * 1024
SAMPLE_ROWS = 1_000
SKIPPED_ROWS = 20
QUOTES = (  # quotation mark, whether a backslash escapes it, what must be there to try it; the usual one first
    ('"', False, ""),
    ("'", False, r"(^|[,;\t|])'[^'\r\n]*'([,;\t|\r]|$)"),
    ('"', True, r'\\"'),
)


def find_form(path: Path, required: Sequence[str], problems: Problems) -> CsvForm:
    """Return the form of the file that fits its first rows best; the usual one where several do."""
    form = CsvForm(encoding=find_encoding(path, problems), spaced=True)
    with path.open(encoding=form.encoding, errors="replace", newline="") as file:
        sample = file.read(SAMPLE_CHARS)
    separators = list(SEPARATORS)
    first = sample.splitlines()[0].strip() if sample.strip() else ""
    if (first.lower().startswith("sep=") and len(first) == len("sep=") + 1) or sample.lower().startswith("sep=\t"):
        separators, form = [sample[len("sep=")]], replace(form, skipped_lines=1)
    quotes = [(mark, escapes) for mark, escapes, evidence in QUOTES if re.search(evidence, sample, re.MULTILINE)]
    forms = [replace(form, separator=sign, quotechar=mark, escapes=escapes) for mark, escapes in quotes for sign in separators]
    best = max(forms, key=lambda form: rate_form(form, sample, required))  # of equals the first
    _, line = read_sample(best, sample, required)
    if line > best.skipped_lines:
        problems.note(path, f"the header is in line {line + 1:,}; what stands above it is passed over.")
    return replace(best, skipped_lines=line)


def read_sample(form: CsvForm, sample: str, required: Sequence[str]) -> tuple[list[list[str]], int]:
    """Return the first rows from the header on, and how many lines stand before it."""
    reader = form.parse(itertools.islice(io.StringIO(sample, newline=""), form.skipped_lines, None))
    rows: list[list[str]] = []
    starts: list[int] = []
    start = form.skipped_lines
    with contextlib.suppress(csv.Error), allow_long_fields():  # the rows before an error count
        for row in itertools.islice(reader, SAMPLE_ROWS):
            if row:
                rows.append(row)
                starts.append(start)
            start = form.skipped_lines + reader.line_num
    wanted = {simplify(name) for name in required}
    names = [{simplify(normalise_name(name)) for name in row} for row in rows[:SKIPPED_ROWS]]
    header = next((place for place, found in enumerate(names) if wanted <= found), 0)
    return (rows[header:], starts[header]) if header else (rows, form.skipped_lines)


def rate_form(form: CsvForm, sample: str, required: Sequence[str]) -> tuple[int, int, bool, int]:
    """Return how well a form fits: needed columns, rows as long as the header, no row with a field in quotation marks, columns."""
    rows, _ = read_sample(form, sample, required)
    header = rows[0] if rows else []
    names = {simplify(normalise_name(name)) for name in header}
    full = [row for row in rows[1:] if len(row) == len(header) and not is_empty(row)]
    quoted = [row for row in full if any(len(field) > 1 and field[0] == field[-1] == "'" for field in row)]
    return sum(simplify(name) in names for name in required), len(full), not full or len(quoted) < len(full), len(header)
