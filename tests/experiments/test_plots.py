"""The plots: what they show, and SVG that is whole, safe and the same every time. Run: python -m pytest tests/experiments/test_plots.py -q"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from experiments.catalogue import EXPERIMENTS, Experiment, get_experiment
from experiments.plots import Panel, draw_experiment, list_panels
from experiments.tables import ResultRow, build_rows
from pipeline.report.plotting import COLOURS, DARK
from tests.experiments.made import SMALL, good, make_evidence, make_small

SVG = "{http://www.w3.org/2000/svg}"
DEFAULT_NAME = "ragar-default-0000000000"
PLOTTED = [experiment for experiment in EXPERIMENTS if not experiment.is_comparison]
RESULTS = make_evidence(good, num_users=12).results


def make_rows(experiment: Experiment) -> list[ResultRow]:
    return build_rows(experiment, {run.name: RESULTS[run.name] for run in experiment.list_runs()})


def draw_small() -> str:
    return draw_experiment(SMALL, build_rows(SMALL, make_small({"default": [1.0, 0.0, 1.0], "k-7": [0.0, 1.0, 0.0]})), default=DEFAULT_NAME)


def list_roles(panels: list[Panel]) -> list[str]:
    return [mark.role for panel in panels for _, marks in panel.blocks for mark in marks]


@pytest.mark.parametrize("experiment", PLOTTED, ids=lambda experiment: experiment.name)
def test_every_experiments_panels_show_every_value_once(experiment: Experiment) -> None:
    rows = make_rows(experiment)
    panels = list_panels(experiment, rows, default=DEFAULT_NAME)
    plotted = {group.title for group in experiment.groups if group.is_plotted}
    assert len(list_roles(panels)) == sum(row.value.value is not None and row.group in plotted for row in rows)
    assert len({(panel.row, panel.column) for panel in panels}) == len(panels)
    assert [panel.row for panel in panels] == sorted(panel.row for panel in panels)


@pytest.mark.parametrize("experiment", PLOTTED, ids=lambda experiment: experiment.name)
def test_every_experiments_plot_is_well_formed_and_inside_of_its_frame(experiment: Experiment) -> None:
    short = replace(experiment, metrics=experiment.metrics[:2])  # the others look the same
    rows = make_rows(short)
    drawn = ElementTree.fromstring(draw_experiment(short, rows, default=DEFAULT_NAME))
    panels = list_panels(short, rows, default=DEFAULT_NAME)
    assert len([node for node in drawn.iter(f"{SVG}g") if node.get("id", "").startswith("axes_")]) == len(panels)
    width, height = (float(size) for size in drawn.get("viewBox").split()[2:])
    texts = list(drawn.iter(f"{SVG}text"))
    assert all(0 <= float(text.get("x")) <= width and 0 <= float(text.get("y")) <= height for text in texts)
    shown = [text.text for text in texts]
    for panel in panels:
        assert panel.title in shown
        assert {mark.label for _, marks in panel.blocks for mark in marks} <= set(shown)


def test_groups_share_a_panel_per_metric_unless_one_has_an_axis() -> None:
    ablation, fig5 = get_experiment("ablation"), get_experiment("fig5")
    together = list_panels(ablation, make_rows(ablation), default=DEFAULT_NAME)
    assert len(together) == len(ablation.metrics)
    assert [title for title, _ in together[0].blocks] == [group.title for group in ablation.groups]
    assert [panel.has_names for panel in together[:4]] == [True, False, False, True]
    side_by_side = list_panels(fig5, make_rows(fig5), default=DEFAULT_NAME)
    assert [(panel.column, panel.axis) for panel in side_by_side[:3]] == [(0, "k"), (1, "r"), (2, None)]
    assert len(side_by_side) == len(fig5.metrics) * 3


def test_a_panel_whose_marks_differ_from_its_neighbours_names_them() -> None:
    seeds = get_experiment("seeds")
    rows = make_rows(seeds)
    rows[1] = replace(rows[1], value=replace(rows[1].value, value=None))
    panels = list_panels(seeds, rows, default="")
    assert [panel.has_names for panel in panels[:3]] == [True, True, False]
    assert len(list_roles(panels[1:2])) == len(list_roles(panels[:1])) - 1


def test_the_default_points_are_drawn_in_the_main_colour() -> None:
    rows = build_rows(SMALL, make_small({"default": [1.0, 0.0, 1.0], "k-7": [0.0, 1.0, 0.0]}))
    assert list_roles(list_panels(SMALL, rows, default=DEFAULT_NAME)) == ["main", "drawn"]
    assert draw_small().count(f"; fill: {COLOURS['main']}") == 1  # its number on the axis


def test_titles_cannot_become_markup_or_formulas() -> None:
    experiment = replace(SMALL, title="A <small> title of $x$ & $y$")
    plot = draw_experiment(experiment, build_rows(experiment, make_small({"default": [1.0, 0.0], "k-7": [0.0, 0.0]})), default="")
    assert ElementTree.fromstring(plot).find(f"{SVG}title").text == experiment.title


def test_the_plot_asks_for_nothing_outside_of_itself() -> None:
    drawn = ElementTree.fromstring(draw_small())
    links = [value for node in drawn.iter() for name, value in node.attrib.items() if name.endswith("href")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "url(#" in draw_small()
    assert "@import" not in draw_small()


def test_every_colour_that_is_drawn_has_a_dark_counterpart() -> None:
    body = draw_small().partition("</style>")[2]
    used = set(re.findall(r"(?:fill|stroke): (#\w+)", body))
    assert used <= set(DARK)
    assert len(used) >= 5


def test_the_same_values_give_the_same_bytes_and_no_value_an_empty_frame() -> None:
    assert draw_small() == draw_small()
    assert not list(ElementTree.fromstring(draw_experiment(SMALL, [], default="")).iter(f"{SVG}text"))
