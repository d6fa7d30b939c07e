"""Join the tables into one task for every (method, case): the drawn image and what it is compared with.

Paper: section "Evaluation Metrics". Choices where it is silent: the history of the personalisation metrics is the whole one
(`history: retrieved` would favour a method that conditions on exactly those items); the text of an item is its own text
and its caption joined. A caption, a truth or a label that upstream stages lack leaves the metrics that need it empty.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from pipeline.columns import map_columns
from pipeline.data.images import ImageReader
from pipeline.evaluation.config import EvaluationConfig, TextSource
from pipeline.metrics.matched_pairs import find_matched_pairs

HASHED_IMAGES = 64  # read at once


@dataclass(frozen=True)
class Catalogue:
    """What evaluation knows of the items, by item_id; `texts` lacks items without any text."""

    images: ImageReader  # of the items that have a digest
    digests: dict[str, str]
    texts: dict[str, str]
    labels: dict[str, tuple[str, str]]  # (style, concept)
    titles: dict[str, str] = field(default_factory=dict)  # what a text begins with, where something stands behind it
    own_texts: dict[str, str] = field(default_factory=dict)  # without captions

    def group_drawings(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Return the (style, item_id) of all drawings by concept, in item_id order."""
        grouped: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for item_id, (style, concept) in sorted(self.labels.items()):
            grouped[concept].append((style, item_id))
        return {concept: tuple(drawings) for concept, drawings in grouped.items()}

    def read_images(self, item_ids: Sequence[str]) -> list[bytes]:
        """Return the items' encoded images; empty for an unknown item."""
        found = self.images.read([item_id for item_id in item_ids if item_id in self.digests])
        return [found.get(item_id, b"") for item_id in item_ids]


@dataclass(frozen=True)
class Generated:
    """The images that one method has drawn, by case_id."""

    method: str
    case_ids: tuple[str, ...]
    images: ImageReader


@dataclass(frozen=True)
class Task:
    """One drawn image with the items that it is compared with; `truth_id` and `label` are None where nobody knows them."""

    method: str
    case_id: str
    user_id: str
    digest: str  # sha256 of the encoded image
    reference_id: str
    truth_id: str | None
    label: tuple[str, str] | None  # (style, concept) of the truth
    history: tuple[str, ...]  # items that are compared
    masked: tuple[str, ...]  # the whole history, never a candidate of the recommender
    drawings: tuple[tuple[str, str], ...] = ()  # (style, item_id) of all drawings of the truth's concept, where it has a label
    partner_id: str | None = None  # the case that shares everything but the artists: the other one of a matched pair
    rival_id: str | None = None  # its truth

    def list_items(self) -> list[str]:
        """Return every item that the image is compared with, without repetition, in a fixed order."""
        return list(dict.fromkeys([self.reference_id, *([self.truth_id] if self.truth_id else []), *self.history]))

    def list_drawings(self) -> list[str]:
        """Return the drawings among which the image is located, the rival's truth included."""
        return list(dict.fromkeys([*(item_id for _, item_id in self.drawings), *([self.rival_id] if self.rival_id else [])]))


def describe_item(text: str, caption: str | None, source: TextSource) -> str:
    """Return the text that stands for an item, e.g. `dog. a neon sticker of a dog`; empty if there is none."""
    parts = {"text": [text], "caption": [caption], "text_and_caption": [text, caption]}[source]
    return ". ".join(part.strip().rstrip(".") for part in parts if part and part.strip())


def build_catalogue(items: pa.Table, images: ImageReader, captions: pa.Table, labels: pa.Table | None, *, source: TextSource) -> Catalogue:
    """Collect the items' digests, texts and labels by item_id; `images` reads their images."""
    caption_of = map_columns(captions, "item_id", "caption")
    text_of = map_columns(items, "item_id", "text")
    described = {item_id: describe_item(text, caption_of.get(item_id), source) for item_id, text in text_of.items()}
    label_rows = labels.to_pylist() if labels is not None else []
    return Catalogue(
        images=images,
        digests=map_columns(items, "item_id", "image_sha256"),
        texts={item_id: text for item_id, text in described.items() if text},
        labels={row["item_id"]: (row["style"], row["concept"]) for row in label_rows},
        titles={item_id: describe_item(text, None, "text") for item_id, text in text_of.items()} if source == "text_and_caption" else {},
        own_texts=text_of,
    )


def build_tasks(
    cases: pa.Table, generated: Sequence[Generated], retrieved: pa.Table, catalogue: Catalogue, config: EvaluationConfig
) -> tuple[list[Task], dict[str, int]]:
    """Return the tasks of the configured split in (method, case_id) order, and how many cases every method lacks."""
    case_of = {row["case_id"]: row for row in cases.to_pylist() if row["split"] == config.split}
    if not case_of:
        raise ValueError(f"evaluation.split is {config.split!r}, but no case is in that split.")
    compared = choose_histories(case_of, retrieved, config)
    drawings = catalogue.group_drawings()
    pairs = find_matched_pairs(case_of.values(), catalogue.own_texts, config.split)
    partner_of = {first: second for pair in pairs for first, second in (pair, pair[::-1])}
    tasks: list[Task] = []
    missing: dict[str, int] = {}
    for drawn in sorted(generated, key=lambda drawn: drawn.method):
        if drawn.method in missing:
            raise ValueError(f"method {drawn.method!r} is in two of the generated tables; each method has one table.")
        case_ids = sorted(case_id for case_id in drawn.case_ids if case_id in case_of)
        missing[drawn.method] = len(case_of) - len(case_ids)
        for case_id, digest in hash_images(drawn.images, case_ids):
            task = build_task(drawn.method, digest, case_of[case_id], compared, catalogue)
            partner_id = partner_of.get(case_id)
            rival_id = case_of[partner_id]["truth_id"] if partner_id else None
            around = drawings.get(task.label[1], ()) if task.label else ()
            tasks.append(replace(task, drawings=around, partner_id=partner_id, rival_id=rival_id))
    return tasks, missing


def hash_images(images: ImageReader, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every key with the sha256 of its image."""
    for start in range(0, len(keys), HASHED_IMAGES):
        for key, image in images.read(keys[start : start + HASHED_IMAGES]).items():
            yield key, hashlib.sha256(image).hexdigest()


def choose_histories(case_of: dict[str, dict], retrieved: pa.Table, config: EvaluationConfig) -> dict[str, list[str]]:
    """Return the items of the personalisation metrics by case: the whole history, or its retrieved part."""
    if config.history == "all":
        return {case_id: row["history"] for case_id, row in case_of.items()}
    chosen: dict[str, list[str]] = {case_id: [] for case_id in case_of}
    for case_id, item_id in zip(retrieved["case_id"].to_pylist(), retrieved["item_id"].to_pylist(), strict=True):
        if case_id in chosen:
            chosen[case_id].append(item_id)
    return chosen


def build_task(method: str, digest: str, case: dict, compared: dict[str, list[str]], catalogue: Catalogue) -> Task:
    """Join one drawn image with its case."""
    truth_id = case["truth_id"]
    return Task(
        method=method,
        case_id=case["case_id"],
        user_id=case["user_id"],
        digest=digest,
        reference_id=case["reference_id"],
        truth_id=truth_id,
        label=catalogue.labels.get(truth_id) if truth_id else None,
        history=tuple(item_id for item_id in compared[case["case_id"]] if item_id in catalogue.digests),
        masked=tuple(case["history"]),
    )


def identify_task(task: Task, catalogue: Catalogue, known: Mapping[str, str]) -> dict[str, object]:
    """Return everything of the task that its scores depend on, for the ledger's row hash; `known` are digests of CLIP vectors by item_id.

    The method is part of it: equal images of two methods would otherwise be scored once, in the batch of whichever came first.
    """
    items = {item_id: (catalogue.digests.get(item_id), catalogue.texts.get(item_id), known.get(item_id)) for item_id in task.list_items()}
    return {
        "method": task.method,
        "image": task.digest,
        "user_id": task.user_id,
        "reference_id": task.reference_id,
        "truth_id": task.truth_id,
        "label": task.label,
        "history": task.history,
        "masked": task.masked,
        "drawings": [(style, item_id, catalogue.digests.get(item_id)) for style, item_id in task.drawings],
        "rival": task.rival_id and (task.rival_id, catalogue.digests.get(task.rival_id)),
        "items": items,
    }
