"""What the sections with pictures show: a sheet of the styles, one card per user, and examples of what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.report.figures import BOUNDS, get_role, get_title, sort_methods
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


@dataclass(frozen=True)
class Card:
    """A user: what was wanted, the history, keywords, and the pictures."""

    user_id: str
    wanted: str
    history: list[Slot]
    keywords: list[str]
    tiles: list[Tile]


def list_causes(inputs: ReportInputs, limit: int) -> LeftOutView:
    """Show why rows were left out: the first causes, each with examples and, where there is one, their picture."""
    known = inputs.left_out
    causes = find_causes(inputs.rejected, cases=known.cases, missing=known.missing)
    views = []
    for cause in causes[:limit]:
        examples = []
        for example in cause.examples:
            data, text = known.images.get(example.item_id or ""), clip(known.texts.get(example.item_id or "", ""))
            picture = None if data is None else build_picture(data, side=SMALL_SIDE, title=text or example.key)
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
        (style, [show_item(inputs, by_style[style], side=SMALL_SIDE, title=f"{concept}, {style}") for concept, by_style in concepts])
        for style in ordered
    ]
    return StyleSheet([concept for concept, _ in concepts], rows)


def show_item(inputs: ReportInputs, item_id: str, *, side: int, title: str) -> Picture:
    """Return an item's own image."""
    return build_picture(inputs.shown.items.get(item_id), side=side, title=title)


def describe_item(inputs: ReportInputs, item_id: str) -> str:
    """Return an item's tooltip: its text, its style where known, its id."""
    label = inputs.labels.get(item_id)
    parts = [inputs.shown.item_texts.get(item_id, ""), label[0] if label else "", item_id]
    return " · ".join(part for part in parts if part)


def build_card(inputs: ReportInputs, case: dict[str, Any]) -> Card:
    """Gather a user's card."""
    keywords = inputs.preferences.get(case["case_id"], [])
    return Card(case["user_id"], describe_wish(inputs, case), build_history(inputs, case), keywords, build_tiles(inputs, case))


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
            title = f"{title} · retrieved {rank + 1}, similarity {similarity:.3f}, weight {weight:.3f}"
        slots.append(Slot(show_item(inputs, item_id, side=SMALL_SIDE, title=title), None if hit is None else hit[0] + 1))
    return slots


def build_tiles(inputs: ReportInputs, case: dict[str, Any]) -> list[Tile]:
    """Show the reference, every drawn method, the truth where known."""
    main_method, drawn = inputs.summary["main_method"], inputs.shown.drawn
    tiles = [build_item_tile(inputs, case, case["reference_id"], "reference", method="original")]
    for method in sort_methods([name for name in drawn if name not in BOUNDS]):
        score = inputs.scores.get((method, case["case_id"]), {})
        title = "; ".join([get_title(method), *(f"{name} {value:.3g}" for name, value in score.items() if isinstance(value, float))])
        picture = build_picture(drawn[method].get(case["case_id"]), side=LARGE_SIDE, title=title, missing="nothing was drawn")
        tiles.append(Tile(picture, get_title(method), get_role(method, main_method), list_verdicts(score)))
    if case["truth_id"]:
        tiles.append(build_item_tile(inputs, case, case["truth_id"], "truth", method="truth"))
    return tiles


def build_item_tile(inputs: ReportInputs, case: dict[str, Any], item_id: str, name: str, *, method: str) -> Tile:
    """Show the reference or the truth, with the verdict on the method that shows it."""
    picture = show_item(inputs, item_id, side=LARGE_SIDE, title=describe_item(inputs, item_id))
    return Tile(picture, name, name, list_verdicts(inputs.scores.get((method, case["case_id"]), {})))


def list_verdicts(score: dict[str, Any]) -> list[tuple[bool, str]]:
    """Return what the judge said of a picture; nothing where there was no verdict."""
    verdicts = ((score.get(f"{what}_accuracy"), what) for what in ("style", "concept"))
    return [(bool(value), what) for value, what in verdicts if value is not None]
