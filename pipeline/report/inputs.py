"""Gather what the page shows from tables and files: users of the gallery, concepts of the style sheet, their images, curves."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.artifacts import read_table
from pipeline.data.dataset import SPLITS
from pipeline.json_files import read_json
from pipeline.report.config import ReportConfig
from pipeline.report.domain import DomainFit
from pipeline.report.left_out import CaseOf, find_causes
from pipeline.schemas import GENERATED, ITEMS
from pipeline.spreadsheets import read_csv
from pipeline.table_images import ImageColumn
from pipeline.yaml_files import read_yaml_mapping

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Shown:
    """The users and concepts that the page shows, with the images of these and no others."""

    cases: list[dict[str, Any]]  # one per user
    concepts: list[tuple[str, dict[str, str]]]  # (concept, style -> item_id)
    item_texts: dict[str, str]
    items: dict[str, bytes]
    drawn: dict[str, dict[str, bytes]]  # method -> case_id -> image; a method that drew none of the cases is there all the same


@dataclass(frozen=True)
class Curves:
    """The numeric columns of a training's CSV over its first column."""

    x_name: str = ""
    columns: dict[str, Points] = field(default_factory=dict)


@dataclass(frozen=True)
class CutPrompts:
    """Prompts of one kind, and how many were too long for the text encoder, so that a title in them was shortened."""

    name: str
    count: int
    total: int


@dataclass(frozen=True)
class LeftOut:
    """What explains the rejected rows: cases by id, images that are missing, and what the examples look like and are called, by item_id."""

    cases: dict[str, CaseOf] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    prompts: list[CutPrompts] = field(default_factory=list)


@dataclass(frozen=True)
class ReportInputs:
    """Everything that the page is made of; tables are row dicts or lookups by key."""

    shown: Shown
    labels: dict[str, tuple[str, str]]  # item_id -> (style, concept)
    preferences: dict[str, list[str]]  # case_id -> keywords w'
    retrieved: dict[str, dict[str, tuple[int, float, float]]]  # case_id -> item_id -> (rank, similarity, weight)
    scores: dict[tuple[str, str], dict[str, Any]]
    summary: dict[str, Any]
    rejected: list[dict[str, str]]  # of all stages
    curves: dict[str, Curves]  # by stage
    params: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)  # counts of the dataset stage
    num_drawn: dict[str, int] = field(default_factory=dict)  # users who have a drawn picture, by split
    domain: DomainFit | None = None  # how well the catalogue's pictures fit their texts, where the models' own are known
    left_out: LeftOut = field(default_factory=LeftOut)


def read_shown(
    items: Path,
    generated: Sequence[Path],
    *,
    cases: Sequence[dict[str, Any]],
    labels: Mapping[str, tuple[str, str]],
    config: ReportConfig,
    seed: int,
) -> Shown:
    """Choose users and concepts, and read the images that belong to them."""
    chosen, concepts = choose_cases(cases, config.num_users, seed=seed), choose_concepts(labels, config.num_concepts, seed=seed)
    texts = read_table(items, ITEMS, columns=["text"])
    images = ImageColumn(items)
    item_ids = [item_id for item_id in list_items(chosen, concepts) if item_id in images]
    shown_texts = texts.filter(pc.is_in(texts["item_id"], pa.array(item_ids, pa.string())))
    return Shown(
        cases=chosen,
        concepts=concepts,
        item_texts=dict(zip(*shown_texts.to_pydict().values(), strict=True)),
        items=images.read(item_ids),
        drawn=read_drawn(generated, [case["case_id"] for case in chosen]),
    )


def list_drawn_cases(paths: Sequence[Path], cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cases that a method has drawn, whether they are measured or not."""
    drawn = {case_id for path in paths for case_id in read_table(path, GENERATED, columns=[])["case_id"].to_pylist()}
    return [case for case in cases if case["case_id"] in drawn]


def count_users(cases: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the users of the cases by split, in the order of the splits."""
    return {split: len(users) for split in SPLITS if (users := {case["user_id"] for case in cases if case["split"] == split})}


def list_items(cases: Sequence[dict[str, Any]], concepts: Sequence[tuple[str, dict[str, str]]]) -> list[str]:
    """Return the items whose images are shown, each once."""
    of_cases = (item_id for case in cases for item_id in (*case["history"], case["reference_id"], case["truth_id"]) if item_id)
    return list(dict.fromkeys((*of_cases, *(item_id for _, by_style in concepts for item_id in by_style.values()))))


def read_drawn(paths: Sequence[Path], case_ids: Collection[str]) -> dict[str, dict[str, bytes]]:
    """Read the images that every method drew for the cases; a file holds one method, and what it lacks is left out."""
    drawn: dict[str, dict[str, bytes]] = {}
    for path in paths:
        methods = read_table(path, GENERATED, columns=[])["method"].unique().to_pylist()
        if len(methods) > 1:
            raise ValueError(f"{path} holds the methods {', '.join(methods)}, but a file of drawn images must hold one.")
        if methods:
            images = ImageColumn(path, key="case_id")
            drawn[methods[0]] = images.read([case_id for case_id in case_ids if case_id in images])
    return drawn


def read_left_out(
    items: Path,
    rejected: Sequence[Mapping[str, str]],
    *,
    cases: Sequence[dict[str, Any]],
    missing: Path | None,
    prompts: Path | None,
    drawn: Sequence[Path],
    limit: int,
) -> LeftOut:
    """Read what explains the rejected rows; `missing` and `prompts` are files of the stages dataset and preference, `drawn` metrics of methods."""
    case_of = {case["case_id"]: CaseOf(case["user_id"], case["reference_id"]) for case in cases}
    missing_of = {row["item_id"]: row for row in read_csv(missing)} if missing else {}
    causes = find_causes(rejected, cases=case_of, missing=missing_of)[:limit]
    images = ImageColumn(items)
    wanted = [example.item_id for cause in causes for example in cause.examples if example.item_id and example.item_id in images]
    texts = read_table(items, ITEMS, columns=["text"])
    named = texts.filter(pc.is_in(texts["item_id"], pa.array(wanted, pa.string())))
    return LeftOut(
        cases=case_of,
        missing=missing_of,
        images=images.read(list(dict.fromkeys(wanted))),
        texts={item_id: row["text"] for item_id, row in missing_of.items()} | dict(zip(*named.to_pydict().values(), strict=True)),
        prompts=read_cut_prompts(prompts, drawn),
    )


def read_cut_prompts(prompts: Path | None, drawn: Sequence[Path]) -> list[CutPrompts]:
    """Read how many prompts were shortened: those of the stage preference, then those that a method writes itself."""
    counts = read_json(prompts) if prompts else {"num_cases": 0, "num_cut": {}}
    found = [CutPrompts(name.replace("_", " "), count, counts["num_cases"]) for name, count in counts["num_cut"].items()]
    measured = ((path.parent.name, read_json(path)) for path in drawn)
    return found + [CutPrompts(f"prompt of {name}", facts["num_cut"], facts["num_images"]) for name, facts in measured if "num_cut" in facts]


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
    rows = read_csv(path)
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
    params = read_yaml_mapping(path)
    return {name: block for name, block in params.items() if name != "runtime"}
