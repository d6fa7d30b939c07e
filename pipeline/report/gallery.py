"""The page's sections with pictures: a sheet of the styles, and one card a user."""

from __future__ import annotations

from typing import Any

from pipeline.report.figures import BOUNDS, get_role, get_title, sort_methods
from pipeline.report.inputs import ReportInputs, choose_cases, choose_concepts
from pipeline.report.markup import Markup, element
from pipeline.report.thumbnails import LARGE_SIDE, SMALL_SIDE, build_picture

STYLE_ORDER = ("classic", "outline", "pastel", "neon", "sepia", "blueprint")


def build_style_sheet(inputs: ReportInputs, num_concepts: int, *, seed: int) -> Markup:
    """Build a grid of a few concepts (columns) in every style (rows); empty if the data set has no styles."""
    concepts = choose_concepts(inputs.labels, num_concepts, seed=seed)
    if not concepts:
        return Markup("")
    styles = {style for style, _ in inputs.labels.values()}
    ordered = [style for style in STYLE_ORDER if style in styles] + sorted(styles - set(STYLE_ORDER))
    cells = [element("span", "")] + [element("span", concept, class_="concept") for concept, _ in concepts]
    for style in ordered:
        cells.append(element("span", style, class_="style"))
        cells.extend(build_picture(inputs.items.read(drawn[style]), side=SMALL_SIDE, title=f"{concept}, {style}") for concept, drawn in concepts)
    columns = f"grid-template-columns: 5.2rem repeat({len(concepts)}, minmax(0, 1fr))"
    return element("div", element("div", *cells, class_="sheet", style=columns), class_="scroll")


def describe_item(inputs: ReportInputs, item_id: str) -> str:
    """Return an item's tooltip: its text, its style where known, its id."""
    label = inputs.labels.get(item_id)
    parts = [inputs.item_texts.get(item_id, ""), label[0] if label else "", item_id]
    return " · ".join(part for part in parts if part)


def build_gallery(inputs: ReportInputs, num_users: int, *, seed: int) -> Markup:
    """Build one card for each of the chosen users of the evaluated split."""
    scored = {case_id for _, case_id in inputs.scores}
    shown = [case for case in inputs.cases if case["case_id"] in scored]
    chosen = choose_cases(shown, num_users, seed=seed)
    return element("div", *(build_card(inputs, case) for case in chosen), class_="cards")


def build_card(inputs: ReportInputs, case: dict[str, Any]) -> Markup:
    """Build a user's card: history, keywords, and the pictures."""
    keywords = inputs.preferences.get(case["case_id"], [])
    chips = [element("span", keyword, class_="chip") for keyword in keywords] or [element("span", "no keywords", class_="chip")]
    wanted = describe_wish(inputs, case)
    return element(
        "article",
        element("header", element("h3", case["user_id"]), element("span", wanted)),
        element("p", f"History of {len(case['history'])} items; framed: retrieved for this reference, most similar first", class_="row-label"),
        build_history(inputs, case),
        element("div", *chips, class_="chips", title="keywords of the preference, most frequent first"),
        element("div", *build_tiles(inputs, case), class_="tiles"),
        class_="card",
    )


def describe_wish(inputs: ReportInputs, case: dict[str, Any]) -> str:
    """Return what the reference shows and, where known, which style the user would like it in."""
    reference = inputs.item_texts.get(case["reference_id"], case["reference_id"])
    label = inputs.labels.get(case["truth_id"] or "")
    return f"{reference}, would like it in {label[0]}" if label else reference


def build_history(inputs: ReportInputs, case: dict[str, Any]) -> Markup:
    """Build the history's thumbnails, oldest first; the retrieved ones are framed and numbered."""
    retrieved = inputs.retrieved.get(case["case_id"], {})
    slots = []
    for item_id in case["history"]:
        title, hit = describe_item(inputs, item_id), retrieved.get(item_id)
        if hit is not None:
            rank, similarity, weight = hit
            title = f"{title} · retrieved {rank + 1}, similarity {similarity:.3f}, weight {weight:.3f}"
        picture = build_picture(inputs.items.read(item_id), side=SMALL_SIDE, title=title)
        number = element("i", hit[0] + 1) if hit is not None else None
        slots.append(element("div", picture, number, class_="slot hit" if hit is not None else "slot"))
    return element("div", *slots, class_="history")


def build_tiles(inputs: ReportInputs, case: dict[str, Any]) -> list[Markup]:
    """Build the tiles: the reference, every drawn method, the truth where known."""
    main_method = inputs.summary["main_method"]
    tiles = [build_item_tile(inputs, case, case["reference_id"], "reference", method="original")]
    for method in sort_methods([name for name in inputs.generated if name not in BOUNDS]):
        score = inputs.scores.get((method, case["case_id"]), {})
        title = "; ".join([get_title(method), *(f"{name} {value:.3g}" for name, value in score.items() if isinstance(value, float))])
        picture = build_picture(inputs.generated[method].read(case["case_id"]), side=LARGE_SIDE, title=title, missing="nothing was drawn")
        tiles.append(build_tile(picture, get_title(method), score, role=get_role(method, main_method)))
    if case["truth_id"]:
        tiles.append(build_item_tile(inputs, case, case["truth_id"], "truth", method="truth"))
    return tiles


def build_item_tile(inputs: ReportInputs, case: dict[str, Any], item_id: str, name: str, *, method: str) -> Markup:
    """Build the tile of the reference or the truth, with the verdict on the method that shows it."""
    picture = build_picture(inputs.items.read(item_id), side=LARGE_SIDE, title=describe_item(inputs, item_id))
    return build_tile(picture, name, inputs.scores.get((method, case["case_id"]), {}), role=name)


def build_tile(picture: Markup, name: str, score: dict[str, Any], *, role: str) -> Markup:
    """Build one framed picture with its name and the judge's verdicts."""
    verdicts = [build_verdict(score.get(f"{what}_accuracy"), what) for what in ("style", "concept")]
    return element("div", element("div", picture, class_="frame"), element("b", name), *verdicts, class_=f"tile {role}")


def build_verdict(value: float | None, what: str) -> Markup | None:
    """Build the judge's verdict on one picture: a tick or a cross; nothing if there was none."""
    if value is None:
        return None
    return element("span", f"{'✓' if value else '✗'} {what}", class_=f"verdict {'yes' if value else 'no'}")
