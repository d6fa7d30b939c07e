"""What became of every kill and flip, counted; the table is printed at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

COLUMNS = ("tried", "noticed", "cure said", "same bytes", "failures")


@dataclass
class Tally:
    """Counts by kind, and every failure in words."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, kind: str, *columns: str) -> None:
        """Count one more of the kind in each of the columns."""
        self.counts.setdefault(kind, Counter()).update(columns)

    def fail(self, kind: str, words: str) -> None:
        """Count a failure and say what happened."""
        self.add(kind, "failures")
        self.failures.append(f"{kind}: {words}")
        print(f"FAILURE {self.failures[-1]}", flush=True)

    def write(self) -> str:
        """Return the table, a line a kind and one of their sums."""
        rows = [(kind, *(counts[column] for column in COLUMNS)) for kind, counts in self.counts.items()]
        rows.append(("all", *(sum(row[i] for row in rows) for i in range(1, len(COLUMNS) + 1))))
        widths = [max(len(kind) for kind, *_ in rows), *map(len, COLUMNS)]
        lines = [("kind", *COLUMNS), *rows]
        return "\n".join("  ".join([str(name).ljust(widths[0]), *map(align, cells, widths[1:])]) for name, *cells in lines)


def align(cell: object, width: int) -> str:
    """Write a number, or a column's name, at the right end of its column."""
    return str(cell).rjust(width)
