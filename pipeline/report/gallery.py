"""What the sections with pictures show: a sheet of the styles, one card per user, and examples of what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.metrics.definitions import define_metrics
from pipeline.report.figures import OWN_IMAGES, format_value, get_role, get_title, order_columns
from pipeline.report.inputs import ReportInputs
from pipeline.report.left_out import Cause, clip, find_causes
from pipeline.report.thumbnails import LARGE_SIDE, SMALL_SIDE, Picture, build_picture

STYLE_ORDER = ("classic", "outline", "pastel", "neon", "sepia", "blueprint")


@dataclass(frozen=True)
class StyleSheet:
    """A few concepts (columns) in every style (rows)."""

    concepts: list[str]
    rows: list[tuple[str, list[Picture]]]


@dataclass(frozen=True)
class Slot:
    """An item of a history; `rank` counts from 1 among the retrieved ones."""

    picture: Picture
    rank: int | None


@dataclass(frozen=True)
class ExampleView:
    """A row that was left out, what its item is called, why, and its picture if there is one."""

    key: str
    text: str
    reason: str
    picture: Picture | None


@dataclass(frozen=True)
class CauseView:
    """A cause with its examples."""

    cause: Cause
    examples: list[ExampleView]


@dataclass(frozen=True)
class LeftOutView:
    """The causes that are shown, and how many more there are, of how many rows."""

    causes: list[CauseView]
    num_more: int
    num_more_rows: int


@dataclass(frozen=True)
class Tile:
    """A framed picture with its name and the judge's verdicts: whether it is right, and in what."""

    picture: Picture
    name: str
    role: str
    verdicts: list[tuple[bool, str]]
    is_leading: bool = False  # reference, main method, truth: they stand side by side in the first row


@dataclass(frozen=True)
class Card:
    """A user: what was wanted, the history, keywords, and the pictures; `note` says whether they count."""

    number: int  # on the page
    user_id: str
    wanted: str
    note: str
    history: list[Slot]
    keywords: list[str]
    leading: list[Tile]
    others: list[Tile]


def list_causes(inputs: ReportInputs, limit: int) -> LeftOutView:
    """Show why rows were left out: the first causes, each with examples and, where there is one, their picture."""
    known = inputs.left_out
    causes = find_causes(inputs.rejected, cases=known.cases, missing=known.missing)
    views = []
    for cause in causes[:limit]:
        examples = []
        for example in cause.examples:
            data, text = known.images.get(example.item_id or ""), clip(known.texts.get(example.item_id or "", ""))
            picture = None if data is None else build_picture(data, side=SMALL_SIDE, title=f"“{text or example.key}”.")
            examples.append(ExampleView(example.key, text, example.reason, picture))
        views.append(CauseView(cause, examples))
    return LeftOutView(views, len(causes) - len(views), sum(cause.count for cause in causes[limit:]))


def build_style_sheet(inputs: ReportInputs) -> StyleSheet | None:
    """Show the chosen concepts in every style; None if the data set has no styles."""
    concepts = inputs.shown.concepts
    if not concepts:
        return None
    styles = set(concepts[0][1])
    ordered = [style for style in STYLE_ORDER if style in styles] + sorted(styles - set(STYLE_ORDER))
    rows = [
        (style, [show_item(inputs, by_style[style], side=SMALL_SIDE, title=f"“{concept}” in the style {style}.") for concept, by_style in concepts])
        for style in ordered
    ]
    return StyleSheet([concept for concept, _ in concepts], rows)


def show_item(inputs: ReportInputs, item_id: str, *, side: int, title: str) -> Picture:
    """Return an item's own image."""
    return build_picture(inputs.shown.items.get(item_id), side=side, title=title)


def describe_item(inputs: ReportInputs, item_id: str) -> str:
    """Say in a sentence what an item is called, and its style where known."""
    text, label = inputs.shown.item_texts.get(item_id, ""), inputs.labels.get(item_id)
    named = f"“{text}”, the item {item_id}" if text else f"The item {item_id}"
    return f"{named}, in the style {label[0]}." if label else f"{named}."


def build_card(inputs: ReportInputs, case: dict[str, Any], *, number: int) -> Card:
    """Gather a user's card."""
    tiles = build_tiles(inputs, case)
    num_leading = sum(tile.is_leading for tile in tiles)
    return Card(
        number=number,
        user_id=case["user_id"],
        wanted=describe_wish(inputs, case),
        note="" if case["split"] == inputs.summary["split"] else f"drawn but not measured: a user of the split {case['split']}",
        history=build_history(inputs, case),
        keywords=inputs.preferences.get(case["case_id"], []),
        leading=tiles[:num_leading],
        others=tiles[num_leading:],
    )


def describe_wish(inputs: ReportInputs, case: dict[str, Any]) -> str:
    """Return what the reference shows and, where known, which style the user would like it in."""
    reference = inputs.shown.item_texts.get(case["reference_id"]) or case["reference_id"]
    label = inputs.labels.get(case["truth_id"] or "")
    return f"{reference}, would like it in {label[0]}" if label else reference


def build_history(inputs: ReportInputs, case: dict[str, Any]) -> list[Slot]:
    """Show the history, oldest first, and which of it was retrieved."""
    retrieved = inputs.retrieved.get(case["case_id"], {})
    slots = []
    for item_id in case["history"]:
        title, hit = describe_item(inputs, item_id), retrieved.get(item_id)
        if hit is not None:
            rank, similarity, weight = hit
            title = f"{title} It was retrieved as number {rank + 1}, with similarity {similarity:.3f} and weight {weight:.3f}."
        slots.append(Slot(show_item(inputs, item_id, side=SMALL_SIDE, title=title), None if hit is None else hit[0] + 1))
    return slots


def build_tiles(inputs: ReportInputs, case: dict[str, Any]) -> list[Tile]:
    """Show the reference, what the main method drew, the truth where known, and what the others drew; a picture of several names is shown once."""
    main_method, drawn = inputs.summary["main_method"], inputs.shown.drawn
    methods = [name for name in order_columns(list(drawn), main_method) if name not in OWN_IMAGES]
    items = [("reference", "original", case["reference_id"])] + ([("truth", "truth", case["truth_id"])] if case["truth_id"] else [])
    own = [(build_item_tile(inputs, case, item_id, name, method=method), inputs.shown.items.get(item_id)) for name, method, item_id in items]
    made = [(build_drawn_tile(inputs, case, method), drawn[method].get(case["case_id"])) for method in methods]
    num_main = int(methods[:1] == [main_method])
    return merge_tiles([*own[:1], *made[:num_main], *own[1:], *made[num_main:]])


def merge_tiles(tiles: Sequence[tuple[Tile, bytes | None]]) -> list[Tile]:
    """Put tiles of the same picture together under the names of all."""
    merged: list[Tile] = []
    place_of: dict[bytes, int] = {}
    for tile, data in tiles:
        place = place_of.setdefault(data, len(merged)) if data else len(merged)
        if place == len(merged):
            merged.append(tile)
            continue
        first = merged[place]
        role = next((role for role in ("main", "truth") if role in (first.role, tile.role)), first.role)
        title = f"{first.picture.title} {tile.picture.title}"
        merged[place] = replace(first, picture=replace(first.picture, title=title), name=f"{first.name} = {tile.name}", role=role)
    return merged


def build_drawn_tile(inputs: ReportInputs, case: dict[str, Any], method: str) -> Tile:
    """Show what a method drew."""
    main_method, score = inputs.summary["main_method"], inputs.scores.get((method, case["case_id"]), {})
    data = inputs.shown.drawn[method].get(case["case_id"])
    values = list_values(inputs, score)
    title = "" if data is None else f"{get_title(method)} drew this{': ' if values else ''}{values}."
    picture = build_picture(data, side=LARGE_SIDE, title=title, missing=f"{get_title(method)} drew nothing.")
    return Tile(picture, get_title(method), get_role(method, main_method), list_verdicts(score), is_leading=method == main_method)


def list_values(inputs: ReportInputs, score: Mapping[str, Any]) -> str:
    """Write a picture's scores by their titles."""
    metrics = define_metrics(inputs.summary["perceptual"])
    return ", ".join(f"{metric.title} {format_value(score[metric.name], metric)}" for metric in metrics if score.get(metric.name) is not None)


def build_item_tile(inputs: ReportInputs, case: dict[str, Any], item_id: str, name: str, *, method: str) -> Tile:
    """Show the reference or the truth, with the verdict on the method that shows it."""
    picture = show_item(inputs, item_id, side=LARGE_SIDE, title=describe_item(inputs, item_id))
    return Tile(picture, name, name, list_verdicts(inputs.scores.get((method, case["case_id"]), {})), is_leading=True)


def list_verdicts(score: Mapping[str, Any]) -> list[tuple[bool, str]]:
    """Return what the judge said of a picture; nothing where there was no verdict."""
    verdicts = ((score.get(f"{what}_accuracy"), what) for what in ("style", "concept"))
    return [(bool(value), what) for value, what in verdicts if value is not None]
