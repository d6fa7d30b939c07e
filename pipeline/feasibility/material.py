"""What the stages will find in a data set, and what each of them is asked to do with it.

Captions and keywords are not known yet: equal pictures count as one caption, and every other picture as a caption of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.dataset import Dataset
from pipeline.feasibility.blocks import CONFIGS
from pipeline.params import build_config, check_blocks, read_document

CHANGES_NO_RESULT = True

Case = Mapping[str, Any]  # a row of the cases table


@dataclass(frozen=True)
class Plan:
    """The configs of all stages by name, the methods that are asked for, and the shares of the splits where the data set has none of its own."""

    configs: Mapping[str, Any]
    methods: frozenset[str]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Material:
    """Cases, interactions by user (oldest first) and pictures, all of which can be read: others are no items."""

    cases: Sequence[Case]
    interactions: Mapping[str, Sequence[str]]
    digests: Mapping[str, str]  # item_id -> sha256 of the picture


def load_plan(params: Path) -> Plan:
    """Load the block of every stage; ValueError if one of them is wrong."""
    document = read_document(params)
    check_blocks(document, where=str(params))
    configs = {name: build_config(document.get(name), config, where=f"{params}: {name}") for name, config in CONFIGS.items()}
    methods = frozenset(name for name, wanted in document.get("comparison", {}).items() if wanted)
    return Plan(configs, methods, tuple(document["dataset"].get("splits", ())))


def survey(dataset: Dataset) -> Material:
    """Gather what the stages will find."""
    interactions: dict[str, list[str]] = {}
    for row in dataset.interactions:
        interactions.setdefault(row["user_id"], []).append(row["item_id"])
    return Material(dataset.cases, interactions, dataset.items.list_digests())
