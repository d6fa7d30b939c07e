"""The three tables that every data set becomes: items, interactions, cases."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.data.items import ItemRows
from pipeline.data.losses import Losses

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class MissingImage:
    """An item that was left out because it has no readable image: where the image belongs, and where it may be had."""

    item_id: str
    text: str
    path: str
    url: str
    hint: str
    reason: str


class TooFewImagesError(ValueError):
    """The readable images do not make a data set; `missing` lists the others, so that they can be fetched."""

    def __init__(self, sentence: str, missing: list[MissingImage]) -> None:
        super().__init__(sentence)
        self.missing = missing


@dataclass
class Dataset:
    """Rows of the dataset stage's tables; `labels` only where every item's style and concept are known."""

    items: ItemRows
    interactions: list[dict[str, Any]]
    cases: list[dict[str, Any]]
    labels: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)  # counts that only this adapter knows
    missing: list[MissingImage] = field(default_factory=list)  # items that the raw files name but whose image cannot be had
    left_out: dict[str, str] = field(default_factory=dict)  # why rows of the raw tables were left out, by the first one's file and line
    notes: list[str] = field(default_factory=list)  # what a person should know about the raw files
    losses: Losses = field(default_factory=Losses)
    max_missing_fraction: float = 1.0  # share of the named items; more is an error


def build_interactions(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Build the interactions table's rows: every user's histories, oldest first, each item once; references and truths are not in it.

    A user with several cases has the items of all their histories, but for the references of the validation and test cases.
    """
    hidden = {(case["user_id"], case["reference_id"]) for case in cases if case["split"] != "train"}
    histories: dict[str, dict[str, None]] = {}
    for case in cases:
        items = [item_id for item_id in case["history"] if (case["user_id"], item_id) not in hidden]
        histories.setdefault(case["user_id"], {}).update(dict.fromkeys(items))
    return [
        {"user_id": user_id, "item_id": item_id, "position": position}
        for user_id, items in histories.items()
        for position, item_id in enumerate(items)
    ]


def assign_splits(users: Sequence[object], shares: Sequence[float]) -> list[str]:
    """Give every user a split: users are ordered by a hash and cut at the shares, so every split has its exact size.

    A split that has a share but, with few users, rounds to none gets one user of the split that is furthest above its share.
    """
    order = sorted(range(len(users)), key=lambda index: hashlib.sha256(f"split:{users[index]}".encode()).digest())
    sizes = np.diff(np.rint(np.cumsum(shares) * len(users)).astype(int), prepend=0)
    for split in np.flatnonzero((sizes == 0) & (np.asarray(shares) > 0)):
        above = np.where(sizes > 1, sizes - np.asarray(shares) * len(users), -np.inf)
        if np.isfinite(above).any():
            sizes[above.argmax()] -= 1
            sizes[split] += 1
    splits = [""] * len(users)
    for place, index in enumerate(order):
        splits[index] = SPLITS[int(np.searchsorted(np.cumsum(sizes), place, side="right"))]
    return splits


def check_shares(splits: Sequence[float]) -> None:
    """Raise ValueError unless there are three shares that sum to 1."""
    if len(splits) != len(SPLITS) or abs(sum(splits) - 1) > 1e-9 or min(splits) < 0:
        raise ValueError(f"splits is {list(splits)}, but it must be 3 shares (train, val, test) that sum to 1.")


def explain_missing(missing: Sequence[MissingImage]) -> dict[str, str]:
    """Return one sentence per missing image by item id."""
    return {row.item_id: f"The image {row.path} is missing: {row.reason}" for row in missing}


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Count what the tables hold."""
    splits = [case["split"] for case in dataset.cases]
    return {
        "items": len(dataset.items),
        "interactions": len(dataset.interactions),
        "users": len({case["user_id"] for case in dataset.cases}),
        "cases": {split: splits.count(split) for split in SPLITS},
        "missing_images": len(dataset.missing),
        **dataset.losses.summarise(),
        **dataset.facts,
    }
