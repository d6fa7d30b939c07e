"""A folder from which TI, PMG and both on the retrieved items start, and how their stages are run in it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_table, write_table
from pipeline.schemas import CASES, KEYWORDS, RETRIEVED
from stages import pmg, ti
from tests.configs import PMG_RETRIEVED, TI, TI_RETRIEVED
from tests.stages.drawing_project import CASE_IDS, ITEM_IDS, Project

TEST_CASES = CASE_IDS[6:]
NO_ITEMS = "c07"  # the case for which nothing is retrieved


def make_baseline_project(root: Path, models: dict[str, str]) -> Project:
    """Make the folder, with the configs of the baselines and keywords of every item."""
    made = Project(root, models)
    made.params |= {"ti": asdict(TI), "ti_retrieved": asdict(TI_RETRIEVED), "pmg_retrieved": asdict(PMG_RETRIEVED)}
    made.write_table(KEYWORDS, [{"item_id": item_id, "keywords": ["red", item_id]} for item_id in ITEM_IDS])
    return made


def invert(project: Project, **options: Any) -> str:
    """Run TI's stage."""
    return project.run(ti, **{"cases": "cases.parquet", "items": "items.parquet", "captions": "captions.parquet", "out": "ti", **options})


def prepare_pmg(project: Project, **options: Any) -> str:
    """Run PMG's stage."""
    names = ("cases", "items", "captions", "keywords")
    return project.run(pmg, **{**{name: f"{name}.parquet" for name in names}, "out": "pmg", **options})


def narrow(project: Project) -> None:
    """Let the retrieved items of the cases differ, and leave one case without any."""
    rows = [
        {"case_id": case_id, "rank": rank, "item_id": ITEM_IDS[(index + rank) % 3], "similarity": 0.5, "weight": 0.5}
        for index, case_id in enumerate(CASE_IDS)
        for rank in range(2)
        if case_id != NO_ITEMS
    ]
    project.write_table(RETRIEVED, rows)


def write_narrowed(project: Project, **fields: str) -> None:
    """Write `narrowed.parquet`: cases whose whole history is what `narrow` lets be retrieved, in the history's order."""
    cases = read_table(project.root / "cases.parquet", CASES).to_pylist()
    for index, case in enumerate(cases):
        chosen = {ITEM_IDS[(index + rank) % 3] for rank in range(2)}
        case["history"] = [item_id for item_id in ITEM_IDS[:3] if item_id in chosen]
        case |= {name: case[other] for name, other in fields.items()}
    write_table(project.root / "narrowed.parquet", [case for case in cases if case["case_id"] != NO_ITEMS], CASES, provenance={})
