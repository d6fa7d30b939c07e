"""Is it good, in a word; and which figures a table holds. Run: python -m pytest tests/pipeline/report/test_results.py -q"""

from __future__ import annotations

import pytest

from pipeline.metrics.definitions import define_metrics
from pipeline.report.figures import order_columns
from pipeline.report.results import (
    group_rows,
    list_charts,
    list_columns,
    list_differences,
    list_facts,
    list_folded,
    list_headline_rows,
    list_rival_columns,
)
from pipeline.report.verdicts import judge
from tests.pipeline.report.made import make_summary

METRICS = {metric.name: metric for metric in define_metrics("effnet")}


def entry(value: float | None, low: float | None = None, high: float | None = None, n: int = 200) -> dict:
    return {"value": value, "low": low, "high": high, "n": n}


def summarise(methods: dict[str, dict], differences: dict[str, dict]) -> dict:
    return make_summary("word") | {"methods": methods, "differences": differences}


@pytest.mark.parametrize(
    ("name", "difference", "word"),
    [
        ("cis", entry(0.3, 0.1, 0.5), "better"),
        ("cis", entry(-0.3, -0.5, -0.1), "worse"),
        ("effnet_truth", entry(-0.3, -0.5, -0.1), "better"),
        ("cis", entry(0.1, -0.1, 0.5), "no difference seen"),
        ("cis", entry(0.0, 0.0, 0.0), "no difference seen"),
        ("cis", entry(0.3, n=4), "too few users to say"),
    ],
)
def test_a_difference_is_put_into_a_word(name: str, difference: dict, word: str) -> None:
    assert judge(difference, METRICS[name]).word == word


def test_columns_begin_with_the_main_method_and_end_with_the_items_own_pictures() -> None:
    assert order_columns(["truth", "global", "original", "sd", "ragar", "zeta"], "ragar") == ["ragar", "sd", "global", "zeta", "original", "truth"]
    assert order_columns(["original", "sd", "ragar"], "sd") == ["sd", "ragar", "original"]


def test_a_headline_has_its_interval_and_a_word_and_says_beside_what() -> None:
    methods = {
        "ragar": {"style_accuracy": entry(0.945, 0.91, 0.975), "delta_r": entry(-0.627, -0.8, -0.4)},
        "sd": {"style_accuracy": entry(0.08, 0.045, 0.12), "delta_r": entry(-0.1, -0.3, 0.0)},
        "original": {"style_accuracy": entry(0.0, 0.0, 0.0), "delta_r": entry(0.0, 0.0, 0.0)},
    }
    differences = {
        "sd": {"style_accuracy": entry(0.865, 0.81, 0.91), "delta_r": entry(-0.5, -0.7, -0.3)},
        "original": {"style_accuracy": entry(0.945, 0.91, 0.975), "delta_r": entry(-0.627, -0.8, -0.4)},
    }
    style, rank, users = list_facts(summarise(methods, differences))
    assert (style.value, style.detail, style.word, style.rest, style.look) == ("94.5%", "95% interval 91.0 … 97.5", "better", "than SD (8.0%)", "win")
    assert (rank.value, rank.word, rank.rest, rank.look) == ("−0.627", "worse", "than the catalogue's own picture (0.000)", "loss")
    assert (users.value, users.title) == ("3", "held-out users")


def test_few_users_have_a_value_and_no_interval() -> None:
    methods = {"ragar": {"delta_r": entry(0.5, n=4)}, "original": {"delta_r": entry(0.0, n=4)}}
    fact = list_facts(summarise(methods, {"original": {"delta_r": entry(0.5, n=4)}}))[0]
    assert (fact.value, fact.detail, fact.word) == ("0.500", "", "too few users to say")


def test_without_a_known_right_answer_history_and_reference_are_the_headlines() -> None:
    ragar = {name: entry(1.0, 0.5, 1.5) for name in ("cpis", "cs", "delta_r", "delta_r_check", "cis")}
    titles = [fact.title for fact in list_facts(summarise({"ragar": ragar}, {}))]
    assert titles[:2] == ["likeness to the history (CPIS)", "likeness to the reference's text (CS)"]
    assert [fact.word for fact in list_facts(summarise({"ragar": ragar}, {}))] == [""] * 5  # nothing to compare with


def test_what_holds_by_definition_is_marked_and_never_compared() -> None:
    """The original never improves its own rank: +50% beside it would be no gain. What it is measured by is compared."""
    names = ("rank_improved", "cis", "effnet_sem", "ssim_sem", "delta_r", "cpis")
    methods = {method: {name: entry(0.5, 0.4, 0.6) for name in names} for method in ("ragar", "sd", "original")}
    methods["original"] |= {"rank_improved": entry(0.0, 0.0, 0.0), "delta_r": entry(0.0, 0.0, 0.0), "cpis": entry(0.4, 0.3, 0.5)}
    methods["sd"] = {name: entry(0.3, 0.2, 0.4) for name in names}
    differences = {method: {name: entry(0.2, 0.1, 0.3) for name in names} for method in ("sd", "original")}
    summary = summarise(methods, differences)
    assert [column.title for column in list_rival_columns(summary)] == ["SD", "original"]
    words = {row.metric.name: [cell.word for cell in row.cells] for row in list_differences(summary)}
    assert {name for name, (_, original) in words.items() if not original} == {"rank_improved", "cis", "effnet_sem", "ssim_sem"}
    assert (words["rank_improved"], words["effnet_sem"], words["cpis"]) == (["better", ""], ["worse", ""], ["better", "better"])
    marked = {row.metric.name for _, rows in group_rows(summary) for row in rows if row.cells[-1].interval == "by definition"}
    assert marked == {"rank_improved", "cis", "effnet_sem", "ssim_sem", "delta_r"}


def test_a_style_that_the_data_set_never_likes_is_no_rival() -> None:
    methods = {"ragar": {"style_accuracy": entry(0.9, 0.8, 1.0)}, "original": {"style_accuracy": entry(0.0, 0.0, 0.0)}}
    assert list_headline_rows(summarise(methods, {"original": {"style_accuracy": entry(0.9, 0.8, 1.0)}})) == []


def test_methods_that_drew_the_same_pictures_share_a_column() -> None:
    drawn = {name: entry(0.3, 0.2, 0.4) for name in ("cis", "cpis")}
    methods = {
        "ragar": {name: entry(0.5, 0.4, 0.6) for name in drawn},
        "keywords": drawn,
        "global": dict(drawn),
        "sd": drawn | {"cis": entry(0.31, 0.2, 0.4)},
    }
    summary = summarise(methods, {name: {"cis": entry(0.2, 0.1, 0.3)} for name in ("keywords", "global", "sd")})
    assert [column.title for column in list_columns(summary)] == ["RAGAR", "SD", "SD + keywords = global"]
    assert [column.title for column in list_rival_columns(summary)] == ["SD", "SD + keywords = global"]
    assert [mark.mark.label for mark in list_charts(summary)[0].chart.rows] == ["RAGAR", "SD", "SD + keywords, +1"]


def test_rows_that_are_the_same_for_every_method_are_folded() -> None:
    methods = {
        name: {
            "hit_at_10": entry(0.00001, 0.0, 0.0001),
            "rank_original": entry(760.2, 700, 820),
            "cis": entry(value, 0, 1),
            "num_history": entry(20.0),
        }
        for name, value in (("ragar", 0.5), ("sd", 0.6))
    }
    summary = summarise(methods, {"sd": {"hit_at_10": entry(0.0, 0.0, 0.0), "cis": entry(-0.1, -0.2, -0.05)}})
    assert list_folded(summary) == [("Rank before", "760.2"), ("R@10", "0.0000"), ("History items", "20.0")]
    assert [row.metric.name for _, rows in group_rows(summary) for row in rows] == ["cis"]
    assert [row.metric.name for row in list_differences(summary)] == ["cis"]


def test_of_a_single_method_only_zeros_are_folded() -> None:
    summary = summarise({"ragar": {"hit_at_10": entry(0.0), "cis": entry(0.5)}}, {})
    assert list_folded(summary) == [("R@10", "0.0000")]
