"""The page on the baselines' step counts, and what they cost beside RAGAR. Run: python -m pytest tests/experiments/test_equal_compute.py -q"""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.catalogue import get_experiment
from experiments.equal_compute import build_compute
from experiments.names import INVERSION, INVERSION_RETRIEVED, MAIN, PMG, PMG_RETRIEVED, STYLE
from experiments.results import Cost, RunResult
from experiments.runs import DEFAULT
from experiments.tables import build_page, build_rows
from tests.experiments.made import good, make_result

STRENGTH = replace(get_experiment("strength"), metrics=(STYLE,))


def make_costs(steps: int) -> dict[str, Cost]:
    """Make the costs of a run on 50 users: TI takes 0.02 s a step and user, PMG 2 s a step, RAGAR 140 s once."""
    return {
        INVERSION: Cost(True, 50 * 0.02 * steps, 0.1, None, "", grows_with_users=True),
        INVERSION_RETRIEVED: Cost(True, 50 * 0.2 * steps, 0.1, None, "", grows_with_users=True),
        PMG: Cost(True, 2.0 * steps, 0.5, None, ""),
        PMG_RETRIEVED: Cost(True, None, 0.5, None, ""),
        MAIN: Cost(True, 140.0, 0.1, None, ""),
    }


@pytest.fixture(scope="module")
def results() -> dict[str, RunResult]:
    found = {}
    for run in STRENGTH.list_runs():
        number = run.name.removeprefix("strength-")
        costs = make_costs(int(number) if number.isdigit() else 40)
        found[run.name] = replace(make_result(run, good, num_users=200 if run == DEFAULT else 50), costs=costs)
    return found


def read_line(lines: list[str], name: str) -> list[str]:
    (line,) = [line for line in lines if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_what_goes_user_by_user_is_scaled_to_the_tested_users_and_the_rest_is_not(results: dict[str, RunResult]) -> None:
    lines = build_compute(STRENGTH.groups, build_rows(STRENGTH, results), results)
    assert lines[0] == "## Compute for 200 test users"
    assert read_line(lines, "RAGAR") == ["140.0", "0.100", "160.0", "1.00"]  # 140 + 200 x 0.1
    assert read_line(lines, "TI, 20 steps") == ["80.0", "0.100", "100.0", "0.62"]  # 200 x 0.02 x 20
    assert read_line(lines, "PMG, 20 steps") == ["40.0", "0.500", "140.0", "0.88"]
    assert read_line(lines, "PMG, without") == ["80.0", "0.500", "180.0", "1.12"]
    assert read_line(lines, "PMG + retrieved, 20 steps") == ["–", "–", "–", "–"]


def test_ragars_keywords_and_ranker_count(results: dict[str, RunResult]) -> None:
    known = {name: replace(result, stage_seconds={"ranker": 50.0, "keywords": 10.0, "embedding": 99.0}) for name, result in results.items()}
    lines = build_compute(STRENGTH.groups, build_rows(STRENGTH, known), known)
    assert read_line(lines, "RAGAR") == ["200.0", "0.100", "220.0", "1.00"]
    assert read_line(lines, "TI, 20 steps") == ["80.0", "0.100", "100.0", "0.45"]


def test_the_most_steps_at_no_more_than_ragars_compute_are_named(results: dict[str, RunResult]) -> None:
    lines = build_compute(STRENGTH.groups, build_rows(STRENGTH, results), results)
    assert [line for line in lines if line.startswith("- ")] == [
        "- TI costs no more than RAGAR up to 20 steps.",  # 100 s, then 180 s
        "- TI + retrieved costs more than RAGAR already with the fewest steps.",
        "- PMG costs no more than RAGAR up to 20 steps.",
    ]


def test_without_the_default_run_the_users_are_those_that_were_drawn(results: dict[str, RunResult]) -> None:
    own = {name: result for name, result in results.items() if name != DEFAULT.name}
    lines = build_compute(STRENGTH.groups, build_rows(STRENGTH, own), own)
    assert lines[0] == "## Compute"
    assert read_line(lines, "TI, 20 steps") == ["20.0", "0.100", "25.0", "0.17"]  # of 140 + 50 x 0.1


def test_the_page_has_a_table_a_method_beside_ragar_of_the_same_validation_users(results: dict[str, RunResult]) -> None:
    rows = build_rows(STRENGTH, results)
    page = build_page(STRENGTH, rows, results)
    assert "50 validation users" in page
    assert "test users." not in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## TI (steps)",
        "## TI + retrieved (steps)",
        "## PMG (steps)",
        "## PMG + retrieved (steps)",
        "## Target keywords of PMG",
        "## Beside them",
        "## Compute for 200 test users",
        "## Runs",
        "## Columns",
    ]
    differences = {row.group: row.difference.value for row in rows if row.difference}
    assert differences["TI"] == pytest.approx(0.3 - 0.9)  # as `good` has it
    assert "beside them" not in differences
