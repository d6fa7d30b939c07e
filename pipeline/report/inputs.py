"""Gather what the page shows from tables and files: users of the gallery, concepts of the style sheet, curves."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Images:
    """Encoded images by key, kept in Arrow: Python copies are made one at a time."""

    column: pa.Array
    index: Mapping[Any, int]

    def read(self, key: object) -> bytes | None:
        """Return the encoded image, or None if there is none under this key."""
        row = self.index.get(key)
        return None if row is None else self.column[row].as_py()["bytes"]


@dataclass(frozen=True)
class Curves:
    """The numeric columns of a training's CSV over its first column."""

    x_name: str = ""
    columns: dict[str, Points] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportInputs:
    """Everything that the page is made of; tables are row dicts or lookups by key."""

    items: Images
    item_texts: dict[str, str]
    labels: dict[str, tuple[str, str]]  # item_id -> (style, concept)
    cases: list[dict[str, Any]]
    preferences: dict[str, list[str]]  # case_id -> keywords w'
    retrieved: dict[str, dict[str, tuple[int, float, float]]]  # case_id -> item_id -> (rank, similarity, weight)
    generated: dict[str, Images]  # method -> images by case_id
    scores: dict[tuple[str, str], dict[str, Any]]
    summary: dict[str, Any]
    rejected: list[dict[str, str]]
    curves: dict[str, Curves]  # by stage
    params: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)  # counts of the dataset stage


def index_images(table: pa.Table, key: str) -> Images:
    """Index a table's images by one of its columns."""
    column = table["image"].combine_chunks()
    array = column if isinstance(column, pa.Array) else pa.array([], type=table["image"].type)
    return Images(array, {value: row for row, value in enumerate(table[key].to_pylist())})


def index_generated(tables: Sequence[pa.Table]) -> dict[str, Images]:
    """Index drawn images by method and case."""
    indexed: dict[str, Images] = {}
    for table in tables:
        images = index_images(table, "case_id")
        rows = zip(table["method"].to_pylist(), table["case_id"].to_pylist(), strict=True)
        by_method: dict[str, dict[str, int]] = {}
        for row, (method, case_id) in enumerate(rows):
            by_method.setdefault(method, {})[case_id] = row
        indexed.update({method: Images(images.column, index) for method, index in by_method.items()})
    return indexed


def index_retrieved(table: pa.Table) -> dict[str, dict[str, tuple[int, float, float]]]:
    """Index retrieved items by case and item."""
    indexed: dict[str, dict[str, tuple[int, float, float]]] = {}
    for row in table.to_pylist():
        indexed.setdefault(row["case_id"], {})[row["item_id"]] = (row["rank"], row["similarity"], row["weight"])
    return indexed


def choose_cases(cases: Sequence[dict[str, Any]], num_users: int, *, seed: int) -> list[dict[str, Any]]:
    """Choose the first case of `num_users` users at random, the same for the same seed, in case order."""
    first: dict[str, dict[str, Any]] = {}
    for case in sorted(cases, key=lambda case: case["case_id"]):
        first.setdefault(case["user_id"], case)
    users = sorted(first)
    chosen = random.Random(f"report:{seed}").sample(users, min(num_users, len(users)))
    return sorted((first[user] for user in chosen), key=lambda case: case["case_id"])


def choose_concepts(labels: Mapping[str, tuple[str, str]], num_concepts: int, *, seed: int) -> list[tuple[str, dict[str, str]]]:
    """Choose concepts that exist in every style: (concept, style -> item_id), at random but the same for the same seed."""
    styles = {style for style, _ in labels.values()}
    by_concept: dict[str, dict[str, str]] = {}
    for item_id, (style, concept) in sorted(labels.items()):
        by_concept.setdefault(concept, {}).setdefault(style, item_id)
    whole = sorted(concept for concept, drawn in by_concept.items() if drawn.keys() == styles)
    chosen = random.Random(f"concepts:{seed}").sample(whole, min(num_concepts, len(whole)))
    return [(concept, by_concept[concept]) for concept in sorted(chosen)]


def read_curves(path: Path) -> Curves:
    """Read a CSV of a training; cells that are no finite number are left out, and so are columns without any."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return Curves()
    x_name, *names = rows[0].keys()
    columns: dict[str, Points] = {}
    for name in names:
        pairs = ((parse_number(row[x_name]), parse_number(row[name])) for row in rows)
        points = [(x, y) for x, y in pairs if x is not None and y is not None]
        if points:
            columns[name] = points
    return Curves(x_name, columns)


def parse_number(text: str | None) -> float | None:
    """Return a finite number, or None."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_params(path: Path) -> dict[str, Any]:
    """Read all params but those that cannot change a result."""
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: block for name, block in params.items() if name != "runtime"}


def flatten_params(params: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (dotted name, value) pairs of nested params in order."""
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if isinstance(value, Mapping):
            pairs.extend(flatten_params(value, f"{prefix}{name}."))
        else:
            pairs.append((f"{prefix}{name}", str(value)))
    return pairs
