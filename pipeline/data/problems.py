"""Problems of raw files: each one sentence that names file and line, collected so that a person can mend them all at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MAX_KEPT = 100  # sentences; the rest is counted
MAX_QUOTED = 60  # characters of a bad value that a sentence repeats
CHECK_COMMAND = "python -m stages.dataset --check"


class DataError(ValueError):
    """Raw files with problems: the first in a sentence, up to MAX_KEPT of them in `problems`, and how many there are in `count`."""

    def __init__(self, *problems: str, count: int = 1) -> None:
        more = f" And {count - 1:,} more; `{CHECK_COMMAND}` lists them." if count > 1 else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems, self.count = problems, count


@dataclass
class Problems:
    """Collects problems while files are read; a reader goes on after a bad row, and `raise_if_any` ends the reading."""

    found: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, path: Path, line: int | None, sentence: str, *, unit: str = "line") -> None:
        """Note one problem; `line` counts from 1, and `unit` is `row` in files without lines."""
        self.count += 1
        if len(self.found) < MAX_KEPT:
            self.found.append(f"{path}{f', {unit} {line:,}' if line is not None else ''}: {sentence}")

    def raise_if_any(self) -> None:
        """Raise DataError if there was a problem."""
        if self.count:
            raise DataError(*self.found, count=self.count)


def quote(value: object) -> str:
    """Return a value for use in a sentence: escaped, and cut where it is long."""
    text = str(value)
    return repr(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")
