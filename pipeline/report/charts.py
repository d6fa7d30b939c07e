"""Draw charts as inline SVG by hand: a few hundred bytes each, coloured by the page's CSS (light and dark), the same every time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.markup import Markup, element, join

WIDTH = 300  # user units; the page scales charts to their column
LABEL_WIDTH = 74
ROW_HEIGHT = 21
PLOT_HEIGHT = 120
MAX_POINTS = 240  # of a curve; longer ones are averaged in equal blocks
SMOOTHED_POINTS = 48  # of a curve, from which a smooth line is drawn on top


@dataclass(frozen=True)
class Mark:
    """One method in an interval chart; `role` is its CSS class: main, drawn, or bound for floor and ceiling."""

    label: str
    value: float
    low: float | None
    high: float | None
    role: str
    text: str  # the value for people


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


def draw_intervals(marks: Sequence[Mark], *, label: str, limits: tuple[float, float] | None = None) -> Markup:
    """Draw one row a method: a dot at the value, a bar over its interval, the value at the right; `limits` fix the axis."""
    edges = [edge for mark in marks for edge in (mark.value, mark.low, mark.high) if edge is not None]
    low, high = limits or (min(edges), max(edges))
    margin = 0.0 if limits else (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - margin, high + margin
    left, right = LABEL_WIDTH, WIDTH - 50

    def place(value: float) -> str:
        return f"{left + (value - low) / (high - low) * (right - left):.1f}"

    bottom = len(marks) * ROW_HEIGHT + 6
    parts = []
    ticks = choose_ticks(low, high, count=5)
    for tick, text in zip(ticks, format_ticks(ticks), strict=True):
        parts.append(element("line", x1=place(tick), x2=place(tick), y1=2, y2=bottom, class_="grid"))
        parts.append(element("text", text, x=place(tick), y=bottom + 13, class_="tick", text_anchor="middle"))
    for row, mark in enumerate(marks):
        y = row * ROW_HEIGHT + ROW_HEIGHT / 2 + 3
        parts.append(element("text", mark.label, x=left - 8, y=y + 4, class_=f"name {mark.role}", text_anchor="end"))
        if mark.low is not None and mark.high is not None:
            parts.append(element("line", x1=place(mark.low), x2=place(mark.high), y1=y, y2=y, class_=f"bar {mark.role}"))
        parts.append(element("circle", cx=place(mark.value), cy=y, r=4.5, class_=f"dot {mark.role}"))
        parts.append(element("text", mark.text, x=WIDTH - 2, y=y + 4, class_=f"value {mark.role}", text_anchor="end"))
    box = f"0 0 {WIDTH} {bottom + 18}"
    return element("svg", join(*parts), viewBox=box, class_="chart", role="img", aria_label=label)


def average_blocks(points: Sequence[tuple[float, float]], *, limit: int) -> list[tuple[float, float]]:
    """Shorten a curve to at most `limit` points by averaging equal blocks."""
    size = max(1, math.ceil(len(points) / limit))
    blocks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in block) / len(block), sum(y for _, y in block) / len(block)) for block in blocks]


def smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Replace y by its mean over a centred window of a twelfth of the curve."""
    reach = len(points) // 24
    means = []
    for place, (x, _) in enumerate(points):
        window = [y for _, y in points[max(0, place - reach) : place + reach + 1]]
        means.append((x, sum(window) / len(window)))
    return means


def draw_curve(points: Sequence[tuple[float, float]], *, label: str, x_name: str = "") -> Markup:
    """Draw y over x with round axis numbers: long curves as a faint line with a smooth one on top, a single point as a dot."""
    points = sorted(points)
    (x_low, x_high), (y_low, y_high) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    margin = (y_high - y_low) * 0.08 or abs(y_high) * 0.1 or 1.0
    y_low, y_high = y_low - margin, y_high + margin
    left, right, top, bottom = 42, WIDTH - 8, 6, PLOT_HEIGHT

    def place_x(value: float) -> str:
        return f"{left + (value - x_low) / ((x_high - x_low) or 1.0) * (right - left):.1f}"

    def place_y(value: float) -> str:
        return f"{bottom - (value - y_low) / (y_high - y_low) * (bottom - top):.1f}"

    def draw_line(line: Sequence[tuple[float, float]], name: str) -> Markup:
        return element("polyline", points=" ".join(f"{place_x(x)},{place_y(y)}" for x, y in line), class_=name)

    parts = []
    ticks = choose_ticks(y_low, y_high, count=4)
    for tick, text in zip(ticks, format_ticks(ticks), strict=True):
        y = place_y(tick)
        parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(element("text", text, x=left - 6, y=y, dy="3.5", class_="tick", text_anchor="end"))
    for value, x, anchor in ((f"{x_low:g}", left, "start"), (x_name, (left + right) / 2, "middle"), (f"{x_high:g}", right, "end")):
        parts.append(element("text", value, x=x, y=bottom + 16, class_="tick", text_anchor=anchor))
    shown = average_blocks(points, limit=MAX_POINTS)
    is_long = len(shown) >= SMOOTHED_POINTS
    parts.append(draw_line(shown, "line faint" if is_long else "line"))
    if is_long:
        shown = smooth(shown)
        parts.append(draw_line(shown, "line"))
    parts.append(element("circle", cx=place_x(shown[-1][0]), cy=place_y(shown[-1][1]), r=3.5, class_="dot main"))
    return element("svg", join(*parts), viewBox=f"0 0 {WIDTH} {PLOT_HEIGHT + 22}", class_="chart", role="img", aria_label=label)
