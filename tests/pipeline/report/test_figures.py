"""Values for people, and which is best. Run: python -m pytest tests/pipeline/report/test_figures.py -q"""

from __future__ import annotations

from pipeline.metrics.definitions import define_metrics
from pipeline.report.figures import find_best, format_interval, format_value, judge_difference, sort_methods
from tests.pipeline.report.made import make_entry

METRICS = {metric.name: metric for metric in define_metrics("effnet")}


def test_floor_and_ceiling_are_never_the_best():
    entries = {"original": make_entry(9.0), "truth": make_entry(10.0), "sd": make_entry(1.0), "ragar": make_entry(2.0)}
    assert find_best(entries, METRICS["cis"]) == {"ragar"}
    assert find_best(entries, METRICS["effnet_sem"]) == {"sd"}
    assert find_best(entries, METRICS["rank_original"]) == set()
    assert find_best({"sd": make_entry(1.0), "ragar": make_entry(1.0)}, METRICS["cis"]) == set()


def test_values_are_written_with_scale_sign_and_unit():
    assert format_value(0.6543, METRICS["style_accuracy"]) == "65.4%"
    assert format_value(-0.0166, METRICS["delta_r"]) == "−0.017"
    assert format_value(-0.0001, METRICS["delta_r"]) == "0.000"
    assert format_value(1.234, METRICS["cis"], signed=True) == "+1.23"
    assert format_value(None, METRICS["cis"]) == "–"
    assert format_interval({"low": 0.5, "high": 0.75}, METRICS["style_accuracy"]) == "50.0 … 75.0"
    assert format_interval({"low": None, "high": None}, METRICS["cis"]) == ""


def test_a_difference_counts_only_if_its_interval_excludes_zero():
    assert judge_difference({"low": 0.1, "high": 0.5}, METRICS["cis"]) == "win"
    assert judge_difference({"low": 0.1, "high": 0.5}, METRICS["effnet_sem"]) == "loss"
    assert judge_difference({"low": -0.1, "high": 0.5}, METRICS["cis"]) == ""
    assert judge_difference({"low": None, "high": None}, METRICS["cis"]) == ""


def test_methods_stand_in_reading_order():
    assert sort_methods(["truth", "ragar", "zeta", "sd", "original", "global"]) == ["original", "sd", "global", "zeta", "ragar", "truth"]
