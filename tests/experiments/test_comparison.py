"""Table 1: the best two, intervals, tests with Holm's correction, and its files. Run: python -m pytest tests/experiments/test_comparison.py -q"""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.catalogue import Experiment, get_experiment
from experiments.comparison import compare_methods, rank_methods
from experiments.comparison_page import CSV_COLUMNS, Cells, build_latex, build_page, format_heading, list_csv_rows
from experiments.names import MAIN, STYLE
from experiments.results import Cost, RunResult
from experiments.runs import DEFAULT
from pipeline.metrics.intervals import Interval
from pipeline.metrics.significance import adjust_holm
from tests.experiments.made import METRICS, bad, good, make_result

TABLE1 = get_experiment("table1")
ALL_METHODS = ("original", "sd", "keywords", "retrieved", "ti", "ti_retrieved", "pmg", "pmg_retrieved", MAIN, "truth")


def make_table(quality=good, **options) -> RunResult:
    costs = {
        "sd": Cost(False, 0, 0.1, 900.0, "2 threads"),
        "ti": Cost(True, 61.5, 0.2, 1234.5, "2 threads"),
        MAIN: Cost(True, None, None, None, "GPU"),
    }
    own = {
        "ti": {
            "num_users": 200,
            "held_out_loss_before": 0.5,
            "held_out_loss": 0.4,
            "held_out_fall": 0.1,
            "held_out_fall_low": 0.05,
            "held_out_fall_high": None,
            "share_of_users_improved": 0.93,
        },
        "ti_retrieved": {"num_users": 200, "held_out_loss_before": None, "held_out_loss": None},  # all images were trained on
        "pmg": {"selection_score": 3.25, "selection_score_first": 3.125},
        "pmg_retrieved": {"selection_score": 4.5, "selection_score_first": 4.25},
    }
    return replace(make_result(DEFAULT, quality, **options), dataset="stylemoji", costs=costs, trainings=own)


@pytest.fixture(scope="module")
def table() -> tuple[RunResult, Cells]:
    """A run and its comparison, which takes thousands of resamples per cell: made once."""
    result = make_table()
    return result, compare_methods(TABLE1, result)


def only(experiment: Experiment, *metrics: str) -> Experiment:
    return replace(experiment, metrics=metrics)


def test_the_table_has_the_papers_columns_and_all_rows(table: tuple[RunResult, Cells]) -> None:
    _, cells = table
    assert list(dict.fromkeys(method for method, _ in cells)) == list(ALL_METHODS)
    columns = [METRICS[cell.metric.name].name for (method, _), cell in cells.items() if method == MAIN]
    paper = ["delta_r", "cps", "cpis", "effnet_pers", "ssim_pers", "cs", "cis", "effnet_sem", "ssim_sem"]
    assert columns == [*paper, "style_accuracy", "effnet_truth"]
    assert all(cell.value.n == 200 for cell in cells.values())


def test_floor_and_ceiling_are_neither_ranked_nor_tested(table: tuple[RunResult, Cells]) -> None:
    _, cells = table
    assert all(cells[method, name].place is None and cells[method, name].p is None for method in ("original", "truth") for name in TABLE1.metrics)
    assert cells[MAIN, STYLE].place == 1
    assert cells["retrieved", STYLE].place == 2
    assert cells[MAIN, STYLE].difference is None


def test_less_is_better_for_a_distance() -> None:
    def quality(run: str, method: str, metric: str) -> float:
        return {"sd": 0.9, "pmg": 0.8}.get(method, 0.1)

    cells = compare_methods(only(TABLE1, "distance_truth"), make_table(quality))
    assert cells["sd", "distance_truth"].value.value < cells["pmg", "distance_truth"].value.value
    assert (cells["sd", "distance_truth"].place, cells["pmg", "distance_truth"].place) == (1, 2)
    assert cells["sd", "distance_truth"].verdict == "worse"


def test_values_that_are_written_alike_share_a_place() -> None:
    means = {name: Interval(value, None, None, 9) for name, value in (("a", 0.50001), ("b", 0.5), ("c", 0.4), ("truth", 1.0), ("d", 0.1))}
    assert rank_methods(means, METRICS[STYLE]) == {"a": 1, "b": 1, "c": 2}


def test_p_values_are_corrected_over_all_tests_of_the_table() -> None:
    cells = compare_methods(TABLE1, make_table(num_users=30))
    tested = [cell for cell in cells.values() if cell.p is not None]
    assert len(tested) == 7 * len(TABLE1.metrics)  # sd, two variants, ti and pmg twice
    assert [cell.p_holm for cell in tested] == adjust_holm([cell.p for cell in tested])
    assert {cell.verdict for cell in tested} == {"better"}
    assert {cell.verdict for cell in compare_methods(TABLE1, make_table(bad, num_users=30)).values()} == {"", "worse"}  # `retrieved` is better there


def test_every_row_speaks_of_the_users_that_all_methods_drew() -> None:
    result = make_table(num_users=6)
    for name in ("u0001", "u0002"):
        del result.by_user["ti"][STYLE][name]
    del result.by_user["truth"][STYLE]["u0003"]  # a floor or ceiling takes nobody away
    cells = compare_methods(only(TABLE1, STYLE), result)
    assert {cells[method, STYLE].value.n for method in ALL_METHODS} == {4, 3}
    assert cells["truth", STYLE].value.n == 3
    assert cells["sd", STYLE].difference.n == 4


def test_a_metric_that_the_data_set_does_not_have_is_left_out() -> None:
    result = make_table(num_users=4)
    for by_metric in result.by_user.values():
        by_metric[STYLE] = {}
    assert STYLE not in {name for _, name in compare_methods(TABLE1, result)}
    assert "Style" not in build_page(TABLE1, result, compare_methods(TABLE1, result))


def test_the_page_marks_best_second_and_tests_and_says_how_it_was_made(table: tuple[RunResult, Cells]) -> None:
    page = build_page(TABLE1, *table)
    row = next(line for line in page.splitlines() if line.startswith("| RAGAR |"))
    assert row.count("**") == 2 * len(TABLE1.metrics)
    assert next(line for line in page.splitlines() if line.startswith("| SD + retrieved |")).count("<u>") == len(TABLE1.metrics)
    assert next(line for line in page.splitlines() if line.startswith("| PMG |")).count("▲") == len(TABLE1.metrics)
    assert "200 test users" in page
    assert "data set `stylemoji`" in page
    assert "all 77 tests" in page
    assert "*original* (floor)" in page
    assert "| TI | 61.5 | 0.200 | 1,234 | 2 threads |" in page
    assert "| SD | none | 0.100 | 900 | 2 threads |" in page
    assert "| RAGAR | – | – | – | GPU |" in page
    assert "it falls by 0.1000 (0.0500 … –), for 93% of the users." in page
    assert "- PMG: mean balance score of the chosen images 3.2500" in page
    assert "- PMG + retrieved: mean balance score of the chosen images 4.5000" in page
    assert "- TI + retrieved: denoising" not in page
    assert "untrained soft" not in page  # this run used none
    assert page == build_page(TABLE1, *table)


def test_headings_tell_columns_of_the_same_title_apart() -> None:
    headings = [format_heading(cell.metric) for (method, _), cell in compare_methods(TABLE1, make_table(num_users=3)).items() if method == MAIN]
    assert len(set(headings)) == len(headings)


def test_the_latex_table_is_balanced_and_escapes_what_latex_would_read(table: tuple[RunResult, Cells]) -> None:
    latex = build_latex(TABLE1, *table)
    assert latex.count("{") == latex.count("}")
    assert latex.count(r"\textbf{") == len(TABLE1.metrics)
    assert latex.count(r"\underline{") == len(TABLE1.metrics)
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in body} == {len(TABLE1.metrics)}
    assert not any("%" in line.replace(r"\%", "") for line in body)


def test_the_csv_holds_every_figure(table: tuple[RunResult, Cells]) -> None:
    rows = list_csv_rows(*table)
    assert len(rows) == len(ALL_METHODS) * len(TABLE1.metrics)
    assert all(set(row) == set(CSV_COLUMNS) for row in rows)
    mine = next(row for row in rows if (row["method"], row["metric"]) == (MAIN, STYLE))
    assert (mine["place"], mine["difference"], mine["p"], mine["n"]) == (1, "", "", 200)
    other = next(row for row in rows if (row["method"], row["metric"]) == ("pmg", STYLE))
    assert other["difference"] == pytest.approx(0.6)
    assert other["p_holm"] >= other["p"] > 0
