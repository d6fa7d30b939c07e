"""Where charts put lines, dots and words. Run: python -m pytest tests/pipeline/report/test_charts.py -q"""

from __future__ import annotations

import pytest

from pipeline.report.charts import Mark, average_blocks, choose_ticks, format_ticks, lay_out_curve, lay_out_intervals, smooth
from pipeline.report.page import load_templates
from tests.pipeline.report.made import Reader


def test_ticks_are_round_and_inside():
    assert choose_ticks(0, 100, count=5) == [0, 50, 100]
    assert choose_ticks(0, 100, count=6) == [0, 20, 40, 60, 80, 100]
    assert choose_ticks(-0.9, 2.1, count=4) == pytest.approx([0, 1, 2])
    for low, high in ((0, 1e-9), (-5, 5), (1e5, 1.0001e5), (3, 3)):
        ticks = choose_ticks(low, high, count=4)
        assert len(ticks) <= 4
        assert all(low - 1e-6 <= tick <= high + 1e-6 for tick in ticks)


def test_axis_numbers_tell_neighbours_apart():
    assert format_ticks([1.07, 1.071, 1.072]) == ["1.070", "1.071", "1.072"]
    assert format_ticks([-50, 0, 50]) == ["−50", "0", "50"]
    assert format_ticks([20_000, 40_000]) == ["20k", "40k"]
    assert format_ticks([0.002]) == ["0.002"]
    assert format_ticks([]) == []


def test_charts_of_one_point_equal_values_and_no_interval_are_whole():
    marks = [Mark("a", 1.0, None, None, "main", "1"), Mark("b", 1.0, 1.0, 1.0, "drawn", "1")]
    drawn = load_templates().get_template("charts.html").module
    curves = [lay_out_curve(points, label="y") for points in ([(1.0, 2.0)], [(0, 5.0), (1, 5.0)])]
    for svg in (drawn.intervals(lay_out_intervals(marks, label="x")), *map(drawn.curve, curves)):
        assert "nan" not in svg
        assert Reader(svg).tags[0][0] == "svg"


def test_dots_and_bars_stand_where_their_values_are_on_the_axis():
    marks = [Mark("low", 0.0, 0.0, 25.0, "main", "0"), Mark("high", 100.0, None, None, "drawn", "100")]
    chart = lay_out_intervals(marks, label="x", limits=(0.0, 100.0))
    assert [row.x for row in chart.rows] == ["102.0", "250.0"]
    assert [row.bar for row in chart.rows] == [("102.0", "139.0"), None]
    assert chart.ticks == [("102.0", "0"), ("176.0", "50"), ("250.0", "100")]


def test_long_curves_are_shortened_and_smoothed_without_moving_their_mean():
    points = [(float(x), float(x % 2)) for x in range(1000)]
    short = average_blocks(points, limit=240)
    assert len(short) == 200
    assert sum(y for _, y in short) / 200 == pytest.approx(0.5, abs=0.02)  # blocks of five hold two or three ones
    assert all(abs(y - 0.5) < 0.1 for _, y in smooth(points))
