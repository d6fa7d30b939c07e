"""The pages in docs/results agree with the runs on record, and with each other. Run: python -m pytest tests/experiments/test_pages.py -q"""

from __future__ import annotations

import re

import pytest

from experiments.catalogue import EXPERIMENTS, list_runs
from experiments.plan import HASH_LENGTH
from experiments.records import FOLDER, NAME, get_run, read_record
from tests.toy_project import REPO

PAGES = REPO / "docs" / "results"
RECORDS = sorted((PAGES / FOLDER).glob("*.parquet"))
EARLIER = "Of an earlier state of the code, without records: "


def list_earlier() -> set[str]:
    """Read which pages docs/results/README.md says are older than the records."""
    lines = [line for line in (PAGES / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith(EARLIER)]
    return {name for line in lines for name in re.findall(r"`([a-z0-9-]+)`", line)}


def list_named(page: str) -> set[str]:
    """Return the experiments that a page names."""
    return set(re.findall(rf"ragar-[\w+.-]+?-[0-9a-f]{{{HASH_LENGTH}}}\b", (PAGES / f"{page}.md").read_text(encoding="utf-8")))


MADE = [experiment.name for experiment in EXPERIMENTS if (PAGES / f"{experiment.name}.md").is_file()]


@pytest.mark.parametrize("page", MADE)
def test_a_page_is_made_from_the_runs_on_record_or_said_to_be_older(page: str) -> None:
    named = list_named(page)
    assert named
    assert (named <= {path.stem for path in RECORDS}) is (page not in list_earlier())


def test_the_pages_name_one_state_of_every_run() -> None:
    named = {name for page in MADE if page not in list_earlier() for name in list_named(page)}
    assert len({get_run(name) for name in named}) == len(named)


def test_every_record_is_of_a_run_that_an_experiment_needs_and_there_is_one_of_each() -> None:
    needed = {f"ragar-{run.name}" for run in list_runs(EXPERIMENTS)}
    runs = [NAME.fullmatch(path.stem)["run"] for path in RECORDS]
    assert set(runs) <= needed
    assert len(set(runs)) == len(runs)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_can_be_read_and_is_small(path) -> None:
    result = read_record(path)
    assert result.by_user["ragar"]
    assert path.stat().st_size < 2**20
