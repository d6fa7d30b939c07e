"""The times of one column, whichever way people write them: what they mean is decided once, for the whole column.

A column has one clock: a counter (below 10^8; only its order counts), seconds, milliseconds, microseconds or nanoseconds since 1970, days
in digits (20240301, 20240301100000), or dates as `dates.py` reads them. A 0 or -1 beside another clock is a time that is missing, and so is
a date that databases write for none (0001-01-01, 1970-01-01, 9999-12-31), unless the other dates come near it.
In `3/1/2024` the order of day and month is the one that a number over 12 elsewhere in the column shows.

Two clocks in a column, and an order of day and month that nothing shows, refuse the data set: a guess would change who is a reference.
"""

from __future__ import annotations

import bisect
import math
import re
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pipeline.data.dates import Order, count_seconds, read_date
from pipeline.data.problems import NUM_EXAMPLES, Problems, name_unit, quote

LIMITS = {  # a number below it is of this clock, unless an earlier one has it
    "a counter": 1e8,
    "seconds since 1970": 5e10,  # from 1973 on
    "milliseconds since 1970": 5e13,
    "microseconds since 1970": 5e16,
    "nanoseconds since 1970": 1e19,
}
ROUNDED = re.compile(r"\d(?:[.,]\d{1,7})?[eE]\+?(?:9|1\d)")
CLOCKS, BOUNDS = list(LIMITS), list(LIMITS.values())
COUNTER, ZERO, DAYS, DATE = "a counter", "zero", "a day in digits", "a date"
FIRST_DAY, LAST_DAY = 19000101, 21001231
NO_DATES = frozenset(count_seconds(datetime(year, month, day)) for year, month, day in ((1, 1, 1), (1899, 12, 30), (1900, 1, 1), (1970, 1, 1)))
LAST_DATE = count_seconds(datetime(9999, 12, 31))
YEAR = 366 * 86_400  # seconds
EXAMPLES = "2026-01-31, 2026-01-31T12:00:00Z or 31 Jan 2026 12:00"


@dataclass
class Seen:
    """How many values of a kind there are, and (line, text) of the first few."""

    count: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, text: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append((line, text))


class TimeColumn:
    """Takes the texts of a column row by row, and gives their times when all are there; memory is a few bytes a row."""

    def __init__(self, path: Path, problems: Problems, *, name: str = "timestamp") -> None:
        self._path, self._problems, self._name = path, problems, name
        self._times = array("d")
        self._clocks: defaultdict[str, Seen] = defaultdict(Seen)
        self._orders: defaultdict[Order, Seen] = defaultdict(Seen)
        self._missing, self._zeros, self._no_dates = array("q"), array("q"), array("q")  # lines; places and lines in turn
        self._swapped: dict[int, float] = {}  # by place: the time if the month comes first
        self._has_other_numbers = False  # numbers of eight digits that are no days

    def add(self, line: int, text: str) -> None:
        """Take the next row's text; what is no time at all is a problem."""
        place = len(self._times)
        self._times.append(math.nan)
        if not text:
            self._missing.append(line)
        elif ROUNDED.fullmatch(text):
            self._problems.add(self._path, line, f"the {self._name} {quote(text)} is rounded, as spreadsheets do; write all of its digits.")
        elif (number := read_number(text)) is not None:
            clock = find_clock(number)
            self._has_other_numbers |= clock == COUNTER and FIRST_DAY <= number <= LAST_DAY
            if clock == ZERO:
                self._zeros.extend((place, line))
            self._clocks[clock].add(line, text)
            self._times[place] = number
        elif (date := read_date(text)) is not None:
            self._times[place] = date.seconds
            if date.order is Order.UNKNOWN:
                self._swapped[place] = date.swapped
            if date.seconds in NO_DATES or date.seconds >= LAST_DATE:
                self._no_dates.extend((place, line))
            self._clocks[DATE].add(line, text)
            self._orders[date.order].add(line, text)
        else:
            self._problems.add(self._path, line, f"the {self._name} {quote(text)} is neither a number nor a date that is known; write {EXAMPLES}.")

    def decide(self) -> np.ndarray:
        """Return the time of every row in the unit of the column's clock, dates in seconds; NaN where there is none, and that row is left out."""
        times = np.array(self._times)
        self._drop_no_dates(times)
        if len(self._missing) == len(times) > 0:
            self._problems.note(self._path, f"the column `{self._name}` holds no time, so the order of rows is taken.")
            return np.arange(len(times), dtype=float)
        clocks = dict(self._clocks)
        if self._has_other_numbers and DAYS in clocks:  # a counter that happens to pass numbers that look like days
            clocks = {COUNTER if clock == DAYS else clock: example for clock, example in clocks.items()}
        if set(clocks) - {ZERO, COUNTER}:
            clocks.pop(ZERO, None)
            times[np.array(self._zeros[::2], dtype=int)] = math.nan
            self._missing.extend(self._zeros[1::2])
        for line in sorted(self._missing):
            self._problems.leave_out(self._path, line, f"`{self._name}` says no time, so the row has no place in the order; it is left out.")
        self._check_clocks(clocks)
        if self._check_order() is Order.MONTH_FIRST:
            times[np.array(list(self._swapped), dtype=int)] = list(self._swapped.values())
        return times

    def _drop_no_dates(self, times: np.ndarray) -> None:
        places, lines = np.array(self._no_dates, dtype=int).reshape(-1, 2).T
        others = np.delete(times, places)
        alone = [moment for moment in np.unique(times[places]) if not (np.abs(others - moment) < YEAR).any()]
        dropped = np.isin(times[places], alone)
        self._missing.extend(lines[dropped].tolist())
        times[places[dropped]] = math.nan

    def _check_clocks(self, clocks: dict[str, Seen]) -> None:
        first, *others = sorted((seen.examples[0], seen.count, clock) for clock, seen in clocks.items() if clock != ZERO) or [None]
        for (line, text), number, clock in others:
            (known_line, known_text), known_number, known_clock = first
            self._problems.add(
                self._path,
                line,
                f"the column `{self._name}` has two clocks: {quote(text)} is {clock} ({number:,} times), but {quote(known_text)} in "
                f"{name_unit(self._path)} {known_line:,} is {known_clock} ({known_number:,} times); write all of them in one way.",
            )

    def _check_order(self) -> Order:
        shown = sorted((seen.examples[0], order) for order, seen in self._orders.items() if order in (Order.DAY_FIRST, Order.MONTH_FIRST))
        unknown = self._orders.get(Order.UNKNOWN)
        if len(shown) > 1:
            ((other_line, other_text), _), ((line, text), _) = shown
            unit = name_unit(self._path)
            sentence = f"in the {self._name} {quote(text)} day and month are in another order than in {quote(other_text)} in {unit} {other_line:,}."
            self._problems.add(self._path, line, sentence)
        elif unknown and not shown:
            for line, text in unknown.examples:
                sentence = f"the {self._name} {quote(text)} does not say whether day or month comes first, nor does any other; write 2026-01-31."
                is_last = (line, text) == unknown.examples[-1]
                self._problems.add(self._path, line, sentence, times=1 + (unknown.count - len(unknown.examples) if is_last else 0))
        return shown[0][1] if shown else Order.DAY_FIRST


def read_number(text: str) -> float | None:
    """Return a finite number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def find_clock(number: float) -> str:
    """Return which clock a number must be of, by its size."""
    if number in (0, -1):
        return ZERO
    if may_be_day(number) and is_day(int(number)):
        return DAYS
    place = bisect.bisect_right(BOUNDS, abs(number))
    return CLOCKS[place] if place < len(CLOCKS) else "a number larger than any time"


def may_be_day(number: float) -> bool:
    """Say whether a number has as many digits as a day, or a day and a time, and a fitting year."""
    return number.is_integer() and (FIRST_DAY <= number <= LAST_DAY or FIRST_DAY * 10**6 <= number < (LAST_DAY + 1) * 10**6)


def is_day(number: int) -> bool:
    """Say whether the digits of a number are a day, or a day and a time."""
    digits = str(number)
    try:
        datetime(int(digits[:4]), *(int(digits[place : place + 2]) for place in range(4, len(digits), 2)), tzinfo=UTC)
    except ValueError:
        return False
    return True
