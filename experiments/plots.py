"""Draw an experiment as one SVG file: panels of values with their intervals, the main method in a colour of its own.

Groups of points along an axis stand side by side, a line of panels per metric. Groups without one share a panel per metric, below each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.catalogue import Experiment, Group
from experiments.names import MAIN
from experiments.tables import ARROWS, ResultRow, name_row
from pipeline.metrics.definitions import Metric
from pipeline.report.charts import Mark
from pipeline.report.figures import BOUNDS, format_value
from pipeline.report.plotting import COLOURS, FAINT, INK, PAPER, ROUND, SOFT, WIDTH, render_svg, use_style

COLUMNS = 3  # of panels, where the groups share them
ROW_HEIGHT, SERIES_HEIGHT = 16, 90  # points: of a mark in a list, of a panel with an axis
HEAD_HEIGHT = 48  # points: title, numbers of an axis, distance
VALUE_WIDTH = 40  # points
PANEL_WIDTH = WIDTH // 3  # points, at least: what a title takes
NAME_STYLES = {
    "title": {"color": INK, "weight": "bold"},
    "main": {"color": COLOURS["main"], "weight": "bold"},
    "drawn": {"color": SOFT},
    "bound": {"color": FAINT},
}  # by role


@dataclass(frozen=True)
class Panel:
    """One chart: `blocks` are a group's title, empty for a single group, and its marks; with `axis` they are points along it."""

    title: str
    blocks: list[tuple[str, list[Mark]]]
    row: int
    column: int
    axis: str | None = None
    has_names: bool = True  # False where the panel left of it names the same marks

    @property
    def height(self) -> float:
        """Return the height of its axes in points."""
        return SERIES_HEIGHT if self.axis else ROW_HEIGHT * len(self.list_names())

    def list_names(self) -> list[tuple[str, str]]:
        """Return what stands on each of its lines: a group's title, with role title, or a mark's label with its role."""
        return [pair for title, marks in self.blocks for pair in ([(title, "title")] if title else []) + [(mark.label, mark.role) for mark in marks]]


def draw_experiment(experiment: Experiment, rows: Sequence[ResultRow], *, default: str) -> str:
    """Return the SVG text: RAGAR in the main colour or, where there is no other method, the points of the experiment `default`."""
    panels = list_panels(experiment, rows, default=default)
    heights = [max(panel.height for panel in panels if panel.row == row) for row in sorted({panel.row for panel in panels})]
    width = max(WIDTH, PANEL_WIDTH * (1 + max((panel.column for panel in panels), default=0)))
    with use_style():
        figure = Figure((width / 72, (sum(heights) + HEAD_HEIGHT * max(1, len(heights))) / 72), dpi=72, layout="constrained")
        figure.get_layout_engine().set(w_pad=9 / 72, h_pad=8 / 72)
        if panels:
            grid = figure.add_gridspec(len(heights), 1 + max(panel.column for panel in panels), height_ratios=heights)
            for panel in panels:
                draw_panel(figure.add_subplot(grid[panel.row, panel.column]), panel)
        return render_svg(figure, title=experiment.title)


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw a panel along its axis, or its marks below each other."""
    axes.set_title(panel.title, pad=8)
    draw = draw_series if panel.axis else draw_list
    draw(axes, panel)


def list_panels(experiment: Experiment, rows: Sequence[ResultRow], *, default: str) -> list[Panel]:
    """Gather the panels, in order of their rows, for every metric that has a value."""
    main = {row.experiment for row in rows} if len({row.method for row in rows}) > 1 else {default}
    groups = [group for group in experiment.groups if group.is_plotted and any(row.group == group.title for row in rows)]

    def list_marks(group: Group, metric: Metric) -> list[Mark]:
        own = [row for row in rows if row.group == group.title]
        return [build_mark(row, name_row(row, own), main=main) for row in own if row.metric == metric and row.value.value is not None]

    with_values = {row.metric for row in rows if row.value.value is not None}
    metrics = [metric for metric in dict.fromkeys(row.metric for row in rows) if metric in with_values]
    arrange = arrange_side_by_side if any(group.axis for group in groups) else arrange_together
    return arrange(groups, metrics, list_marks)


ListMarks = Callable[[Group, Metric], list[Mark]]


def arrange_side_by_side(groups: Sequence[Group], metrics: Sequence[Metric], list_marks: ListMarks) -> list[Panel]:
    """Return a line of panels per metric, a column per group."""
    return [
        Panel(f"{format_title(metric)} · {group.title}", [("", marks)], row, column, group.axis)
        for row, metric in enumerate(metrics)
        for column, group in enumerate(groups)
        if (marks := list_marks(group, metric))
    ]


def arrange_together(groups: Sequence[Group], metrics: Sequence[Metric], list_marks: ListMarks) -> list[Panel]:
    """Return a panel per metric, in a grid, with the groups below each other; marks are named once in a line of panels."""
    panels: list[Panel] = []
    for place, metric in enumerate(metrics):
        row, column = divmod(place, COLUMNS)
        blocks = [(group.title if len(groups) > 1 else "", list_marks(group, metric)) for group in groups]
        panel = Panel(format_title(metric), [block for block in blocks if block[1]], row, column)
        is_named = column > 0 and panel.list_names() == panels[row * COLUMNS].list_names()
        panels.append(replace(panel, has_names=not is_named))
    return panels


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


def draw_list(axes: Axes, panel: Panel) -> None:
    """Draw marks below each other: name, bar over the interval, dot, value; a group's title above its marks."""
    names = panel.list_names()
    lines = [line for line, (_, role) in enumerate(names) if role != "title"]
    marks = [mark for _, own in panel.blocks for mark in own]
    draw_marks(axes.plot, axes.hlines, list(zip(lines, marks, strict=True)))
    for line, mark in zip(lines, marks, strict=True):
        place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "ha": "right", "va": "center_baseline"}
        axes.annotate(mark.text, (1, line), (VALUE_WIDTH, 0), **place, **NAME_STYLES[mark.role])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), [name for name, _ in names] if panel.has_names else [""] * len(names), fontsize=8.25)
    for label, (_, role) in zip(axes.get_yticklabels(), names, strict=True):
        label.set(**NAME_STYLES[role])
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.grid(axis="x")


def draw_series(axes: Axes, panel: Panel) -> None:
    """Draw marks from left to right at equal distances, joined by a line, each with a bar over its interval."""
    ((_, marks),) = panel.blocks
    axes.plot([mark.value for mark in marks], color=COLOURS["bound"], linewidth=1)
    draw_marks(lambda values, xs, **look: axes.plot(xs, values, **look), axes.vlines, list(enumerate(marks)))
    axes.set_xlim(-0.5, len(marks) - 0.5)
    axes.set_xticks(range(len(marks)), [mark.label for mark in marks])
    for label, mark in zip(axes.get_xticklabels(), marks, strict=True):
        label.set(**NAME_STYLES["main"] if mark.role == "main" else {})
    axes.annotate(panel.axis, (1, 0), (2, -3.5), xycoords="axes fraction", textcoords="offset points", va="top", color=FAINT, fontsize=7.5)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
    axes.grid(axis="y")


def draw_marks(plot: Callable[..., Any], draw_bars: Callable[..., Any], placed: Sequence[tuple[int, Mark]]) -> None:
    """Draw bars and dots, role by role; `plot` takes values and places, `draw_bars` places and ends of intervals. Floor and ceiling are hollow."""
    for role, colour in COLOURS.items():
        own = [(place, mark) for place, mark in placed if mark.role == role]
        bars = [(place, mark.low, mark.high) for place, mark in own if mark.low is not None]
        if bars:
            draw_bars(*zip(*bars, strict=True), colors=[(colour, 0.45)], linewidth=2.2, capstyle="round")
        if own:
            look = {"markerfacecolor": PAPER, "markeredgewidth": 1.5} if role == "bound" else {"markerfacecolor": colour, "markeredgewidth": 0}
            plot([mark.value for _, mark in own], [place for place, _ in own], marker="o", linestyle="", markersize=6, markeredgecolor=colour, **look)
