"""Join the tables into one task for every (method, case): the drawn image and what it is compared with.

Paper: section "Evaluation Metrics". Choices where it is silent: the history of the personalisation metrics is the whole one
(`history: retrieved` would favour a method that conditions on exactly those items); the text of an item is its own text
and its caption joined. A caption, a truth or a label that upstream stages lack leaves the metrics that need it empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.evaluation.config import EvaluationConfig, TextSource


@dataclass(frozen=True)
class Catalogue:
    """What evaluation knows of the items, by item_id; `texts` lacks items without any text."""

    image_column: pa.Array  # struct<bytes, path>, kept in Arrow: Python copies are made one at a time
    index: dict[str, int]
    digests: dict[str, str]
    texts: dict[str, str]
    labels: dict[str, tuple[str, str]]  # (style, concept)

    def read_image(self, item_id: str) -> bytes:
        """Return the encoded image of an item; empty if the item is unknown."""
        row = self.index.get(item_id)
        return b"" if row is None else self.image_column[row].as_py()["bytes"] or b""


@dataclass(frozen=True)
class Task:
    """One drawn image with the items that it is compared with; `truth_id` and `label` are None where nobody knows them."""

    method: str
    case_id: str
    user_id: str
    image: bytes
    reference_id: str
    truth_id: str | None
    label: tuple[str, str] | None  # (style, concept) of the truth
    history: tuple[str, ...]  # items that are compared
    masked: tuple[str, ...]  # the whole history, never a candidate of the recommender

    def list_items(self) -> list[str]:
        """Return every item that the image is compared with, without repetition, in a fixed order."""
        return list(dict.fromkeys([self.reference_id, *([self.truth_id] if self.truth_id else []), *self.history]))


def describe_item(text: str, caption: str | None, source: TextSource) -> str:
    """Return the text that stands for an item, e.g. `dog. a neon sticker of a dog`; empty if there is none."""
    parts = {"text": [text], "caption": [caption], "text_and_caption": [text, caption]}[source]
    return ". ".join(part.strip().rstrip(".") for part in parts if part and part.strip())


def build_catalogue(items: pa.Table, captions: pa.Table, labels: pa.Table | None, *, source: TextSource) -> Catalogue:
    """Collect the items' images, digests, texts and labels by item_id."""
    caption_of = dict(zip(captions["item_id"].to_pylist(), captions["caption"].to_pylist(), strict=True))
    ids = items["item_id"].to_pylist()
    described = {item_id: describe_item(text, caption_of.get(item_id), source) for item_id, text in zip(ids, items["text"].to_pylist(), strict=True)}
    label_rows = labels.to_pylist() if labels is not None else []
    return Catalogue(
        image_column=pa.concat_arrays(items["image"].chunks) if ids else pa.array([], type=items["image"].type),
        index={item_id: row for row, item_id in enumerate(ids)},
        digests=dict(zip(ids, items["image_sha256"].to_pylist(), strict=True)),
        texts={item_id: text for item_id, text in described.items() if text},
        labels={row["item_id"]: (row["style"], row["concept"]) for row in label_rows},
    )


def build_tasks(
    cases: pa.Table, generated: Sequence[pa.Table], retrieved: pa.Table, catalogue: Catalogue, config: EvaluationConfig
) -> tuple[list[Task], dict[str, int]]:
    """Return the tasks of the configured split in (method, case_id) order, and how many cases every method lacks."""
    case_of = {row["case_id"]: row for row in cases.to_pylist() if row["split"] == config.split}
    if not case_of:
        raise ValueError(f"evaluation.split is {config.split!r}, but no case is in that split.")
    compared = choose_histories(case_of, retrieved, config)
    tasks: dict[tuple[str, str], Task] = {}
    missing: dict[str, int] = {}
    for table in generated:
        rows = [row for row in table.to_pylist() if row["case_id"] in case_of]
        for method in {row["method"] for row in rows} or set(table["method"].to_pylist()):
            if method in missing:
                raise ValueError(f"method {method!r} is in two of the generated tables; each method has one table.")
            missing[method] = len(case_of) - sum(row["method"] == method for row in rows)
        for row in rows:
            tasks[row["method"], row["case_id"]] = build_task(row, case_of[row["case_id"]], compared, catalogue)
    return [tasks[key] for key in sorted(tasks)], missing


def choose_histories(case_of: dict[str, dict], retrieved: pa.Table, config: EvaluationConfig) -> dict[str, list[str]]:
    """Return the items of the personalisation metrics by case: the whole history, or its retrieved part."""
    if config.history == "all":
        return {case_id: row["history"] for case_id, row in case_of.items()}
    chosen: dict[str, list[str]] = {case_id: [] for case_id in case_of}
    for case_id, item_id in zip(retrieved["case_id"].to_pylist(), retrieved["item_id"].to_pylist(), strict=True):
        if case_id in chosen:
            chosen[case_id].append(item_id)
    return chosen


def build_task(row: dict, case: dict, compared: dict[str, list[str]], catalogue: Catalogue) -> Task:
    """Join one drawn image with its case."""
    truth_id = case["truth_id"]
    return Task(
        method=row["method"],
        case_id=row["case_id"],
        user_id=case["user_id"],
        image=row["image"]["bytes"],
        reference_id=case["reference_id"],
        truth_id=truth_id,
        label=catalogue.labels.get(truth_id) if truth_id else None,
        history=tuple(item_id for item_id in compared[case["case_id"]] if item_id in catalogue.index),
        masked=tuple(case["history"]),
    )


def identify_task(task: Task, catalogue: Catalogue) -> dict[str, object]:
    """Return everything of the task that its scores depend on, for the ledger's row hash."""
    items = {item_id: (catalogue.digests.get(item_id), catalogue.texts.get(item_id)) for item_id in task.list_items()}
    return {
        "image": task.image,
        "user_id": task.user_id,
        "reference_id": task.reference_id,
        "truth_id": task.truth_id,
        "label": task.label,
        "history": task.history,
        "masked": task.masked,
        "items": items,
    }
