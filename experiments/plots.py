"""Draw an experiment as one SVG file: a panel for every group and metric, every value with its interval, colours of its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from experiments.catalogue import MAIN, Experiment, Group
from experiments.tables import ARROWS, ResultRow, name_row
from pipeline.metrics.definitions import Metric
from pipeline.report.charts import LABEL_WIDTH, WIDTH, Mark, choose_ticks, draw_intervals, format_ticks
from pipeline.report.figures import BOUNDS, format_value
from pipeline.report.markup import Markup, element, join

CSS = """
svg { font-family: system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
.paper { fill: #ffffff; }
.title { font-size: 12px; font-weight: 600; fill: #1d1c22; }
.chart text { font-size: 11px; fill: #6b6874; }
.chart text.tick { font-size: 9.5px; fill: #9d99a6; }
.chart text.main { fill: #d9480f; font-weight: 700; }
.chart text.bound { fill: #9d99a6; }
.grid { stroke: #e7e3da; stroke-width: 1; }
.line { fill: none; stroke: #b3afba; stroke-width: 1.4; }
.bar { stroke: #5c6f9c; stroke-width: 3; stroke-linecap: round; opacity: .45; }
.dot { fill: #5c6f9c; }
.bar.main { stroke: #d9480f; }
.dot.main { fill: #d9480f; }
.bar.bound { stroke: #b3afba; }
.dot.bound { fill: #ffffff; stroke: #b3afba; stroke-width: 2; }
"""
GAP, TITLE = 28, 20  # user units between panels, above a panel
COLUMNS = 3  # of panels, where an experiment has a single group
LETTER = 6.0  # user units a letter of a row's name
SERIES_HEIGHT = 120
NAMESPACE = "http://www.w3.org/2000/svg"


@dataclass(frozen=True)
class Panel:
    """One chart with its title, its place in the grid, and how far its names reach beyond its left edge."""

    title: str
    chart: Markup
    height: float
    overhang: float
    row: int
    column: int


def draw_experiment(experiment: Experiment, rows: Sequence[ResultRow], *, default: str) -> str:
    """Return the SVG text: RAGAR in the main colour or, where there is no other method, the points of the experiment `default`."""
    panels = list_panels(experiment, rows, default=default)
    lefts = place_edges([max(p.overhang + WIDTH for p in own) for own in gather(panels, lambda p: p.column)])
    tops = place_edges([max(TITLE + p.height for p in own) for own in gather(panels, lambda p: p.row)])
    overhangs = [max(p.overhang for p in own) for own in gather(panels, lambda p: p.column)]
    parts: list[Markup] = []
    for panel in panels:
        x, y = lefts[panel.column] + overhangs[panel.column], tops[panel.row]
        parts.append(element("text", panel.title, x=f"{x:.1f}", y=f"{y + 12:g}", class_="title"))
        parts.append(place_chart(panel.chart, x, y + TITLE, panel.height))
    width, height = f"{lefts[-1]:.0f}", f"{tops[-1]:.0f}"
    paper = element("rect", width=width, height=height, class_="paper")
    size = {"xmlns": NAMESPACE, "viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return f"{element('svg', element('style', Markup(CSS)), paper, *parts, **size, role='img', aria_label=experiment.title)}\n"


def list_panels(experiment: Experiment, rows: Sequence[ResultRow], *, default: str) -> list[Panel]:
    """Draw a panel for every group and metric that has a value: groups side by side, or one group's metrics in a grid."""
    metrics = list(dict.fromkeys(row.metric for row in rows if row.value.value is not None))
    groups = [group for group in experiment.groups if any(row.group == group.title for row in rows)]
    main = {r.experiment for r in rows} if len({r.method for r in rows}) > 1 else {default}
    panels = []
    for column, group in enumerate(groups):
        own = [row for row in rows if row.group == group.title]
        for row, metric in enumerate(metrics):
            marks = [build_mark(r, name_row(r, own), main=main) for r in own if r.metric == metric and r.value.value is not None]
            if marks:
                place = (row, column) if len(groups) > 1 else divmod(row, COLUMNS)
                title = format_title(metric) + (f" · {group.title}" if len(groups) > 1 else "")
                panels.append(draw_panel(group, marks, title, place))
    return panels


def draw_panel(group: Group, marks: Sequence[Mark], title: str, place: tuple[int, int]) -> Panel:
    """Draw marks along the group's axis, or below each other without one."""
    chart = draw_series(marks, label=title, axis=group.axis) if group.axis else draw_intervals(marks, label=title)
    found = re.search(r'viewBox="0 0 \S+ (\S+)"', chart)
    assert found is not None
    longest = 0 if group.axis else max(len(mark.label) for mark in marks)
    return Panel(title, chart, float(found[1]), max(0.0, longest * LETTER + 8 - LABEL_WIDTH), *place)


def gather(panels: Sequence[Panel], key: Callable[[Panel], int]) -> list[list[Panel]]:
    """Return the panels of each row or column, in order; every number up to the largest has some."""
    numbers = sorted({key(panel) for panel in panels})
    return [[panel for panel in panels if key(panel) == number] for number in numbers]


def place_edges(sizes: Sequence[float]) -> list[float]:
    """Return where each row or column starts, with gaps between and around, and where the last gap ends."""
    return list(itertools.accumulate((size + GAP for size in sizes), initial=float(GAP)))


def format_title(metric: Metric) -> str:
    """Write a metric's title with its unit and the direction that is better."""
    unit = f" in {metric.unit}" if metric.unit else ""
    return f"{metric.title}{unit}{ARROWS[metric.higher_is_better]}"


def build_mark(row: ResultRow, name: str, *, main: Collection[str]) -> Mark:
    """Turn a row into a mark in the metric's own scale; the main method is marked in the experiments `main`."""
    assert row.value.value is not None
    low, high = (None if bound is None else bound * row.metric.scale for bound in (row.value.low, row.value.high))
    role = "bound" if row.method in BOUNDS else "main" if row.method == MAIN and row.experiment in main else "drawn"
    return Mark(name, row.value.value * row.metric.scale, low, high, role, format_value(row.value.value, row.metric))


def place_chart(chart: Markup, x: float, y: float, height: float) -> Markup:
    """Give a chart its place and natural size inside of another one."""
    size = f'x="{x:.1f}" y="{y:g}" width="{WIDTH}" height="{height:g}" overflow="visible"'
    return Markup(chart.replace("<svg ", f"<svg {size} ", 1))


def draw_series(marks: Sequence[Mark], *, label: str, axis: str) -> Markup:
    """Draw marks from left to right at equal distances, joined by a line, each with a bar over its interval."""
    edges = [edge for mark in marks for edge in (mark.value, mark.low, mark.high) if edge is not None]
    margin = (max(edges) - min(edges)) * 0.08 or abs(max(edges)) * 0.1 or 1.0
    low, high = min(edges) - margin, max(edges) + margin
    left, right, top, bottom = 46, WIDTH - 16, 6, SERIES_HEIGHT

    def place_x(index: int) -> str:
        return f"{left + (index + 0.5) / len(marks) * (right - left):.1f}"

    def place_y(value: float) -> str:
        return f"{bottom - (value - low) / (high - low) * (bottom - top):.1f}"

    parts = []
    ticks = choose_ticks(low, high, count=4)
    for tick, text in zip(ticks, format_ticks(ticks), strict=True):
        parts.append(element("line", x1=left, x2=right, y1=place_y(tick), y2=place_y(tick), class_="grid"))
        parts.append(element("text", text, x=left - 6, y=place_y(tick), dy="3.5", class_="tick", text_anchor="end"))
    parts.append(element("polyline", points=" ".join(f"{place_x(i)},{place_y(mark.value)}" for i, mark in enumerate(marks)), class_="line"))
    for i, mark in enumerate(marks):
        x = place_x(i)
        if mark.low is not None and mark.high is not None:
            parts.append(element("line", x1=x, x2=x, y1=place_y(mark.low), y2=place_y(mark.high), class_=f"bar {mark.role}"))
        parts.append(element("circle", cx=x, cy=place_y(mark.value), r=4, class_=f"dot {mark.role}"))
        parts.append(element("text", mark.label, x=x, y=bottom + 14, class_=f"tick {mark.role}", text_anchor="middle"))
    parts.append(element("text", axis, x=right + 4, y=bottom + 14, class_="tick"))
    return element("svg", join(*parts), viewBox=f"0 0 {WIDTH} {SERIES_HEIGHT + 20}", class_="chart", role="img", aria_label=label)
