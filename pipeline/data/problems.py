"""Problems of raw files: each one sentence that names file and line; equal ones are one sentence with their number and three examples.

There are three kinds. A problem refuses the data set, a left-out row is missing something that only this row needs, and a note is
something that a person should know. Sentences are equal if they differ in nothing but quoted values and numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.terminal import show

MAX_KEPT = 100  # different sentences; the rest is counted
MAX_QUOTED = 60  # characters of a bad value that a sentence repeats
NUM_EXAMPLES = 3
VALUES = re.compile(r"""(?<!\w)'(?:[^'\\]|\\.)*'|(?<!\w)"(?:[^"\\]|\\.)*"|\d[\d,]*""")
CHECK_COMMAND = "python -m stages.dataset --check"


class DataError(ValueError):
    """Raw files with problems: the first in a sentence, one sentence a kind in `problems`, and how many there are of all kinds in `count`."""

    def __init__(self, *problems: str, count: int = 1) -> None:
        others = len(problems) - 1
        more = f" And {others:,} more kind{'s' if others > 1 else ''} of problems; `{CHECK_COMMAND}` lists them." if others else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems, self.count = problems, count


@dataclass
class Kind:
    """Equal problems of one file: how many, the first, and where and with which values a few more of them are."""

    path: str
    line: int | None
    unit: str
    sentence: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, line: int | None, sentence: str, times: int) -> None:
        """Count one more, and keep it as an example while there are few."""
        if self.count and line is not None and len(self.examples) < NUM_EXAMPLES - 1:
            first = VALUES.findall(self.sentence)
            differing = [value for value, known in zip(VALUES.findall(sentence), first, strict=False) if value != known]
            values = f" ({', '.join(differing)})" if differing else ""
            self.examples.append(f"{self.unit} {line:,}{values}")
        self.count += times

    def describe(self) -> tuple[str, str]:
        """Return where the first one is, and the sentence."""
        place = f", {self.unit} {self.line:,}" if self.line is not None else ""
        also = f", also {' and '.join(self.examples)}" if self.examples else ""
        more = f" So it is in {self.count:,} {self.unit}s{also}." if self.count > 1 else ""
        return f"{self.path}{place}", f"{self.sentence}{more}"


class Findings:
    """Sentences about rows of files, equal ones together; memory is bounded whatever the files hold."""

    def __init__(self) -> None:
        self.count = 0
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._others = 0

    def add(self, path: Path, line: int | None, sentence: str, *, unit: str = "", times: int = 1) -> None:
        """Note one finding, or `times` equal ones of which only this one is at hand."""
        self.count += times
        key = (str(path), VALUES.sub("", sentence))
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) == MAX_KEPT:
                self._others += times
                return
            kind = self._kinds[key] = Kind(show(str(path)), line, unit or name_unit(path), show(sentence))
        kind.add(line, show(sentence), times)

    def list_kinds(self) -> list[tuple[str, str]]:
        """Return (place of the first, sentence) of every kind, file by file as they were read; of a file, causes (no line) before their rows."""
        files = {kind.path: place for place, kind in reversed(list(enumerate(self._kinds.values())))}
        ordered = sorted(self._kinds.values(), key=lambda kind: (files[kind.path], kind.line is not None))
        others = [("others", f"{self._others:,} more, of other kinds.")] if self._others else []
        return [*(kind.describe() for kind in ordered), *others]


class Problems:
    """Collects what is found while files are read; a reader goes on after a bad row, and `raise_if_any` ends the reading."""

    def __init__(self) -> None:
        self._problems, self._left_out = Findings(), Findings()
        self._notes: dict[str, None] = {}
        self._rows: Counter[Path] = Counter()
        self._rows_left_out: Counter[Path] = Counter()

    @property
    def count(self) -> int:
        """How many problems refuse the data set."""
        return self._problems.count

    @property
    def found(self) -> list[str]:
        """One sentence a kind of problem."""
        return [f"{place}: {sentence}" for place, sentence in self._problems.list_kinds()]

    @property
    def left_out(self) -> dict[str, str]:
        """One sentence a reason for which rows were left out, by the place of the first of them."""
        return dict(self._left_out.list_kinds())

    @property
    def num_left_out(self) -> int:
        """How many rows were left out."""
        return self._left_out.count

    @property
    def notes(self) -> list[str]:
        """What a person should know about the files, though nothing is wrong."""
        return list(self._notes)

    def add(self, path: Path, line: int | None, sentence: str, *, unit: str = "", times: int = 1) -> None:
        """Note a problem; `line` counts from 1, and `unit` says what it counts: by default rows of Parquet files, lines of others."""
        self._problems.add(path, line, sentence, unit=unit, times=times)

    def leave_out(self, path: Path, line: int, sentence: str, *, unit: str = "") -> None:
        """Note that a row is left out, and why; the data set can be used without it."""
        self._rows_left_out[path] += 1
        self._left_out.add(path, line, sentence, unit=unit)

    def note(self, path: Path, sentence: str) -> None:
        """Note something that a person should know; a sentence is kept once."""
        if len(self._notes) < MAX_KEPT:
            self._notes[show(f"{path}: {sentence}")] = None

    def count_rows(self, path: Path, number: int) -> None:
        """Note how many rows a file has, for `check_left_out`."""
        self._rows[path] += number

    def check_left_out(self, max_fraction: float) -> None:
        """Make it a problem if more than this share of a file's rows were left out: then it is the file that is wrong, not the rows."""
        for path, number in self._rows_left_out.items():
            if number > max_fraction * self._rows[path]:
                reasons = " ".join(sentence for place, sentence in self.left_out.items() if place.startswith(f"{show(str(path))}, "))
                self.add(
                    path,
                    None,
                    f"{number:,} of {self._rows[path]:,} rows would be left out, more than dataset.max_rejected_fraction, {max_fraction}: {reasons}",
                )

    def raise_if_any(self) -> None:
        """Raise DataError if there was a problem."""
        if self.count:
            raise DataError(*self.found, count=self.count)


def name_unit(path: Path) -> str:
    """Return what the numbers of a file count: rows of Parquet files, lines of others."""
    return "row" if path.suffix.lower() == ".parquet" else "line"


def quote(value: object) -> str:
    """Return a value for use in a sentence: cut where it is long, with everything that is not printable (ESC, U+202E) as an escape."""
    text = str(value)
    return repr(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")


def join_names(names: Iterable[str]) -> str:
    """Return names for use in a sentence: `a`, `b`, `c`."""
    return ", ".join(f"`{show(name)}`" for name in names)
