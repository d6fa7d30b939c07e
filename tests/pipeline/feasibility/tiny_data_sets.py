"""Tiny data sets, the default params and changed ones, and what the check says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.data.dataset import Dataset, build_interactions
from pipeline.data.items import ItemRows
from pipeline.data.source import UserSequence, build_case
from pipeline.feasibility.material import Plan, load_plan, survey
from pipeline.feasibility.obstacles import find_obstacles
from tests.test_repo_rules import REPO

DEFAULT = load_plan(REPO / "params.yaml")
METHODS = ("original", "truth", "sd", "keywords", "retrieved", "ti", "ti_retrieved", "pmg", "pmg_retrieved", "global", "ragar")


def make_dataset(histories: list[list[str]], splits: list[str], *, num_items: int = 0) -> Dataset:
    """Make users `u0`, `u1`, ... with the given histories; the reference of each is `r`, which nobody has seen; equal first letters look equal."""
    items = ItemRows()
    known = dict.fromkeys([*(item for history in histories for item in history), "r", *(f"n{index}" for index in range(num_items))])
    for item_id in known:
        items.add(item_id, item_id.split("=")[0].encode(), text="", category="")
    cases = [build_case(UserSequence(f"u{n}", tuple(history), "r"), split) for n, (history, split) in enumerate(zip(histories, splits, strict=True))]
    return Dataset(items, build_interactions(cases), cases)


def change(plan: Plan, *, methods: set[str] | None = None, shares: tuple[float, ...] | None = None, **blocks: dict[str, Any]) -> Plan:
    configs = {name: replace(config, **blocks.get(name, {})) for name, config in plan.configs.items()}
    return Plan(configs, plan.methods if methods is None else frozenset(methods), plan.shares if shares is None else shares)


def find(dataset: Dataset, plan: Plan) -> list[str]:
    return find_obstacles(survey(dataset), plan)
