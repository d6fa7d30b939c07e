"""What was left out and why: rows grouped by cause, a cause's consequences counted with it and not again.

A row is rejected by one stage, and what needed it is rejected by later ones: an item without a caption has no keywords, and a case of it no prompt.
Only the first is a cause; the others are known by their reasons, which repeat it or say what is lacking. Reasons that differ in nothing but the
names, files and numbers in them are one cause.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

ORDER = (
    "dataset", "captioning", "embedding", "ranker_check", "keywords", "retrieval", "preference", "ti", "ti_retrieved", "pmg", "pmg_retrieved",
    "generation", "evaluation",
)  # fmt: skip
ITEM_STAGES = ("captioning", "embedding", "ranker_check", "keywords")
CASE_STAGES = ("retrieval", "preference", "ti_retrieved", "pmg", "pmg_retrieved")
UNITS = dict.fromkeys(ITEM_STAGES, "item") | dict.fromkeys(CASE_STAGES, "case") | {"ti": "user"}
USER = "user/"  # what the key of a user that the stage dataset has left out begins with
UNITS |= dict.fromkeys(("generation", "evaluation"), "picture")
NUM_EXAMPLES = 3
MAX_CHARS = 300  # of a reason or a name on the page
BLANK = "…"
LACKS = re.compile(
    r"no (?:caption|embedding|pseudo-word|retrieved item)\b|case's retrieved images|neither a (?:text|caption) nor a (?:text|caption)"
    r"|text of the reference|named no keywords",
    re.IGNORECASE,
)
VARIABLE = re.compile(
    r"""'[^']*'|"[^"]*"|(?<!\w)\S*[/\\]\S*\w|(?<!\w)[\w.-]+\.(?:png|jpe?g|gif|webp|bmp|tiff?)\b|(?<![\w.])\d[\d.,]*\d|\b\d\b""", re.IGNORECASE
)


@dataclass(frozen=True)
class CaseOf:
    """Whose case it is, and which item is its reference."""

    user_id: str
    reference_id: str


@dataclass(frozen=True)
class Example:
    """A row that was left out; `item_id` is the item that it is or is about, if it is known."""

    key: str
    reason: str
    item_id: str | None


@dataclass
class Cause:
    """Rows of one stage that were left out for the same reason."""

    stage: str
    unit: str  # what its rows are
    reason: str  # with a blank where its rows differ
    count: int = 0
    examples: list[Example] = field(default_factory=list)
    consequences: Counter[str] = field(default_factory=Counter)  # later rows by stage

    @property
    def title(self) -> str:
        """Return how many of what was left out."""
        return f"{self.count:,} {self.unit}{'' if self.count == 1 else 's'}"

    @property
    def follows(self) -> list[str]:
        """Return how many rows later stages left out because of these."""
        return [f"{count:,} {get_unit(stage)}{'' if count == 1 else 's'} of the stage {stage}" for stage, count in self.consequences.items()]


def find_causes(rejected: Sequence[Mapping[str, str]], *, cases: Mapping[str, CaseOf], missing: Mapping[str, Mapping[str, str]]) -> list[Cause]:
    """Group rows of the tables of rejected rows by cause, in the order of the stages, the most frequent cause of a stage first.

    `missing` holds the data set's rows without an image by item_id, `cases` all cases by case_id.
    """
    causes: dict[tuple[str, str], Cause] = {}
    cause_of: dict[str, tuple[Cause, str]] = {}  # with the row's own reason
    for row in sorted(rejected, key=lambda row: (rank_stage(row["stage"]), row["row_key"])):
        stage, key = get_family(row["stage"]), row["row_key"]
        case = find_case(key, cases)
        earlier = [cause_of[name] for name in list_needs(row["stage"], key, case, cases) if name in cause_of]
        if found := next((known for known in earlier if known[1] in row["reason"] or LACKS.search(row["reason"])), None):
            found[0].consequences[stage] += 1
            cause_of.setdefault(write_name(row["stage"], key), found)
            continue
        is_missing = stage == "dataset" and key in missing
        is_user = stage == "dataset" and key.startswith(USER)
        reason = clip(missing[key]["reason"] if is_missing else row["reason"])
        names = (
            [] if is_missing else [key.removeprefix(USER) if is_user else key, *([cases[case].reference_id] if case else [])]
        )  # what is wrong with a picture names no item
        general = generalise(reason, names)
        cause = causes.setdefault((stage, general), Cause(stage, "item" if is_missing else "user" if is_user else get_unit(stage), reason))
        cause.count += 1
        if reason != cause.reason:
            cause.reason = general
        if len(cause.examples) < NUM_EXAMPLES:
            is_item = stage in ITEM_STAGES or is_missing
            cause.examples.append(
                Example(
                    clip(key.removeprefix(USER) if is_user else key),
                    clip(row["reason"]),
                    key if is_item else cases[case].reference_id if case else None,
                )
            )
        cause_of.setdefault(write_name(row["stage"], key), (cause, row["reason"]))
    return sorted(causes.values(), key=lambda cause: (rank_stage(cause.stage), -cause.count))


def list_needs(stage: str, key: str, case_id: str | None, cases: Mapping[str, CaseOf]) -> Iterator[str]:
    """List what a row needs of earlier stages, the earliest first: names by which their rejects are known."""
    family, _, method = stage.partition("@")
    if family in ITEM_STAGES:
        yield f"item {key}"
    if case_id is not None:
        yield f"item {cases[case_id].reference_id}"
        yield f"case {case_id}"
        if family == "generation":
            yield f"{method} {cases[case_id].user_id}"
            yield f"{method} {case_id}"


def write_name(stage: str, key: str) -> str:
    """Return the name by which a reject is known to later stages."""
    family = get_family(stage)
    if family in ("dataset", *ITEM_STAGES):
        return f"item {key}"
    if family in ("retrieval", "preference"):
        return f"case {key}"
    return f"{stage} {key}"


def find_case(key: str, cases: Mapping[str, CaseOf]) -> str | None:
    """Return the case that a row's key is or ends in (a drawn picture's names its method first)."""
    if key in cases:
        return key
    last = key.partition("/")[2]
    return last if last in cases else None


def generalise(reason: str, names: Sequence[str]) -> str:
    """Return a reason with a blank for every name, file and number in it."""
    for name in sorted(filter(None, names), key=len, reverse=True):
        reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", BLANK, reason)
    return VARIABLE.sub(BLANK, reason)


def get_unit(stage: str) -> str:
    """Return what a stage's rows are."""
    return UNITS.get(stage, "row")


def get_family(stage: str) -> str:
    """Return the stage without its method."""
    return stage.partition("@")[0]


def rank_stage(stage: str) -> tuple[int, str]:
    """Sort stages as they run; one that is not known comes last."""
    family = get_family(stage)
    return (ORDER.index(family) if family in ORDER else len(ORDER), family)


def clip(text: str) -> str:
    """Return a text that is not too long for a page."""
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}{BLANK}"
