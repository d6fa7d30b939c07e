"""Lay out small charts: where each line, dot and word stands. `templates/charts.html` draws them as SVG, coloured by the page's style sheet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 300  # user units; the page scales charts to their column
LABEL_WIDTH, VALUE_WIDTH = 102, 50  # left and right of an interval chart's axis
ROW_HEIGHT = 21
PLOT_HEIGHT = 120
MAX_POINTS = 240  # of a curve; longer ones are averaged in equal blocks
SMOOTHED_POINTS = 48  # of a curve, from which a smooth line is drawn on top

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Mark:
    """One method in an interval chart; `role` is its CSS class: main, drawn, or bound for floor and ceiling."""

    label: str
    value: float
    low: float | None
    high: float | None
    role: str
    text: str  # the value for people


@dataclass(frozen=True)
class Axis:
    """A linear scale from values in [low, high] to user units in [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> str:
        """Return a value's coordinate as SVG text."""
        return f"{self.start + (value - self.low) / ((self.high - self.low) or 1.0) * (self.end - self.start):.1f}"

    def list_ticks(self, *, count: int) -> list[tuple[str, str]]:
        """Return at most `count` round numbers on the axis: coordinate and text."""
        ticks = choose_ticks(self.low, self.high, count=count)
        return [(self.place(tick), text) for tick, text in zip(ticks, format_ticks(ticks), strict=True)]


@dataclass(frozen=True)
class IntervalRow:
    """A mark with its coordinates."""

    mark: Mark
    y: float
    x: str
    bar: tuple[str, str] | None  # from x to x


@dataclass(frozen=True)
class IntervalChart:
    """One row per method: a dot at the value, a bar over its interval, the value at the right."""

    label: str
    bottom: float  # of the grid
    ticks: list[tuple[str, str]]
    rows: list[IntervalRow]


@dataclass(frozen=True)
class CurveChart:
    """y over x: long curves as a faint line with a smooth one on top, a single point as a dot."""

    label: str
    left: int  # ends of the x axis
    right: int
    x_texts: tuple[str, str, str]  # at its left end, middle and right end
    ticks: list[tuple[str, str]]
    line: str  # SVG points
    faint_line: str  # the same unsmoothed, empty for short curves
    end: tuple[str, str]  # of the line


def choose_ticks(low: float, high: float, *, count: int) -> list[float]:
    """Return at most `count` round numbers within [low, high]: 1, 2 or 5 times a power of ten apart, as dense as fits."""
    power = 10.0 ** math.floor(math.log10(max(high - low, 1e-12) / count))
    for step in (factor * power for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < count:
            return [index * step for index in range(first, last + 1)]
    raise AssertionError("20 times the power of ten below a count-th of the span always fits")


def format_ticks(ticks: Sequence[float]) -> list[str]:
    """Write axis numbers with as many decimals as tell neighbours apart; large ones in thousands."""
    step = min((b - a for a, b in itertools.pairwise(ticks)), default=abs(ticks[0]) if ticks else 1.0) or 1.0
    if max(map(abs, ticks), default=0.0) >= 10_000 and step >= 100:
        return [f"{tick / 1000:.4g}k".replace("-", "−") for tick in ticks]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:.{decimals}f}".replace("-", "−") if tick else "0" for tick in ticks]


def lay_out_intervals(marks: Sequence[Mark], *, label: str, limits: tuple[float, float] | None = None) -> IntervalChart:
    """Place the marks below each other; `limits` fix the axis."""
    edges = [edge for mark in marks for edge in (mark.value, mark.low, mark.high) if edge is not None]
    low, high = limits or (min(edges), max(edges))
    margin = 0.0 if limits else (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    axis = Axis(low - margin, high + margin, LABEL_WIDTH, WIDTH - VALUE_WIDTH)
    rows = []
    for row, mark in enumerate(marks):
        bar = None if mark.low is None or mark.high is None else (axis.place(mark.low), axis.place(mark.high))
        rows.append(IntervalRow(mark, row * ROW_HEIGHT + ROW_HEIGHT / 2 + 3, axis.place(mark.value), bar))
    return IntervalChart(label, len(marks) * ROW_HEIGHT + 6, axis.list_ticks(count=5), rows)


def average_blocks(points: Points, *, limit: int) -> list[tuple[float, float]]:
    """Shorten a curve to at most `limit` points by averaging equal blocks."""
    size = max(1, math.ceil(len(points) / limit))
    blocks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in block) / len(block), sum(y for _, y in block) / len(block)) for block in blocks]


def smooth(points: Points) -> list[tuple[float, float]]:
    """Replace y by its mean over a centred window of a twelfth of the curve."""
    reach = len(points) // 24
    means = []
    for place, (x, _) in enumerate(points):
        window = [y for _, y in points[max(0, place - reach) : place + reach + 1]]
        means.append((x, sum(window) / len(window)))
    return means


def lay_out_curve(points: Points, *, label: str, x_name: str = "") -> CurveChart:
    """Place y over x, with round numbers beside it."""
    points = sorted(points)
    (x_low, x_high), (y_low, y_high) = ((min(values), max(values)) for values in zip(*points, strict=True))
    margin = (y_high - y_low) * 0.08 or abs(y_high) * 0.1 or 1.0
    left, right = 42, WIDTH - 8
    x_axis, y_axis = Axis(x_low, x_high, left, right), Axis(y_low - margin, y_high + margin, PLOT_HEIGHT, 6)

    def join_points(line: Points) -> str:
        return " ".join(f"{x_axis.place(x)},{y_axis.place(y)}" for x, y in line)

    shown = average_blocks(points, limit=MAX_POINTS)
    faint_line = ""
    if len(shown) >= SMOOTHED_POINTS:
        faint_line, shown = join_points(shown), smooth(shown)
    return CurveChart(
        label=label,
        left=left,
        right=right,
        x_texts=(f"{x_low:g}", x_name, f"{x_high:g}"),
        ticks=y_axis.list_ticks(count=4),
        line=join_points(shown),
        faint_line=faint_line,
        end=(x_axis.place(shown[-1][0]), y_axis.place(shown[-1][1])),
    )
