"""From item keywords to a user's preference: w', the text of E^g and the prompt p_g, one row per case (eq. 6, 7).

Departures from the paper:
1. Retrieval has no influence on a drawn image as printed, for eq. 6 counts over the whole history; yet figures 1 and 4 and the text
   say that unrelated items are left out. Here p_g (`keywords_from`) names the keywords of the retrieved items, each counted by its
   weight of eq. 5 (`weighted`) or once (`retrieved`); `all` is the printed reading. E^g (`global_from`, the same choices) stays the
   whole history's, as printed: what a user likes in all things, of which p_g says what belongs here. Plain prompts of the whole
   history's and of p_g's keywords are kept beside them, as the images that RAGAR is compared with.
2. As printed, nothing of the reference enters the prompts, so an unseen reference could not be drawn. `reference_in_prompt: text`
   (our default) puts its text first in the text of E^g and into p_g; `text+caption` puts its caption into p_g as well, which says how the
   reference looks now, and `none` is the printed reading.
3. "Low-frequency" is not defined: a keyword counts as such below `min_count` items (our default: less than the majority of the five
   retrieved ones, so that two looks are rarely asked for at once). Such keywords come back, in order, only while
   fewer than `min_keywords` remain.
4. A keyword that repeats the reference's text adds nothing and is left out of the text of E^g.
5. A title that would push keywords beyond what the diffusion model's text encoder reads is shortened in all prompts
   (`pipeline/models/text_budget.py`).
6. Without retrieval (k = 0, Figure 5a) no case has retrieved items, and the whole history counts whatever `keywords_from` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from pipeline.columns import map_columns
from pipeline.config import Count, Share, config_dataclass
from pipeline.data.texts import read_item_texts
from pipeline.keywords.prompts import build_detailed_prompt, flatten_text
from pipeline.models.text_budget import UNBOUNDED, FittedText, TextBudget
from pipeline.rows import Rejection

Source = Literal["all", "retrieved", "weighted"]
LOOK_FIELDS = ("visual_tokens", "look_items", "look_temperature", "look_consensus")  # of the config: what pipeline/looks reads
FITTED = ("keyword_prompt", "retrieved_prompt", "global_prompt")  # what the text encoder reads


@config_dataclass
class PreferenceConfig:
    """How keywords become a preference, and how the look of a history's pictures stands beside it."""

    keywords_from: Source  # of p_g
    global_from: Source  # of the text of E^g
    num_keywords: Count
    min_count: Count
    min_keywords: NonNegativeInt
    reference_in_prompt: Literal["text", "text+caption", "none"]
    visual_tokens: NonNegativeInt
    look_items: Literal["all", "retrieved"]
    look_temperature: PositiveFloat
    look_consensus: NonNegativeFloat
    max_rejected_fraction: Share

    def __post_init__(self) -> None:
        if self.min_keywords > self.num_keywords:
            raise ValueError(f"min_keywords is {self.min_keywords}, but it must be at most num_keywords ({self.num_keywords}).")

    def describe(self) -> dict[str, Any]:
        """Return what the tables are made with; without look tokens nothing of looks is."""
        return {name: value for name, value in asdict(self).items() if self.visual_tokens or name not in LOOK_FIELDS}


@dataclass(frozen=True)
class CountedKeyword:
    """A keyword, the number of items that hold it, and its count: that number, or their summed weights."""

    keyword: str
    num_items: int
    count: float


def count_keywords(items: Iterable[tuple[Sequence[str], float]]) -> list[CountedKeyword]:
    """Count over (keywords, weight) of each item, most frequent first, ties in order of appearance."""
    num_items: dict[str, int] = {}
    totals: dict[str, float] = {}
    for keywords, weight in items:
        for keyword in dict.fromkeys(keywords):
            num_items[keyword] = num_items.get(keyword, 0) + 1
            totals[keyword] = totals.get(keyword, 0.0) + weight
    counted = [CountedKeyword(keyword, num_items[keyword], totals[keyword]) for keyword in num_items]
    return sorted(counted, key=lambda entry: -entry.count)  # stable: ties keep their order


def choose_keywords(counted: Sequence[CountedKeyword], config: PreferenceConfig) -> list[CountedKeyword]:
    """Choose w' from keywords in order of their counts: drop the low-frequency ones, keep the first `num_keywords`."""
    frequent = [entry for entry in counted if entry.num_items >= config.min_count]
    rare = [entry for entry in counted if entry.num_items < config.min_count]
    return (frequent + rare[: max(0, config.min_keywords - len(frequent))])[: config.num_keywords]


def build_global_prompt(keywords: Sequence[str], *, reference_text: str | None) -> str:
    """Build the text of E^g: the reference's text unless None, then w', comma separated."""
    if reference_text is None:
        return ", ".join(keywords)
    reference = flatten_text(reference_text)
    return ", ".join([reference, *(keyword for keyword in keywords if keyword != reference.lower())])


class PreferenceBuilder:
    """The tables that every case needs, looked up by id; `num_cut` counts the cases whose prompt the text encoder would not have read whole."""

    def __init__(
        self,
        config: PreferenceConfig,
        *,
        items: pa.Table,
        captions: pa.Table,
        keywords: pa.Table,
        retrieved: pa.Table,
        budget: TextBudget = UNBOUNDED,
    ) -> None:
        self.config, self.budget = config, budget
        self.num_cut = dict.fromkeys(FITTED, 0)
        self._text_of = read_item_texts(items, captions)  # the caption where an item has no text
        self._caption_of = map_columns(captions, "item_id", "caption")
        self._keywords_of = map_columns(keywords, "item_id", "keywords")
        self._retrieved_of: dict[str, list[tuple[str, float]]] = {}
        for row in retrieved.to_pylist():  # in key order: most similar first
            self._retrieved_of.setdefault(row["case_id"], []).append((row["item_id"], row["weight"]))

    def build(self, case: dict[str, Any]) -> dict[str, Any] | Rejection:
        """Build the preference row of a case, or say why there is none."""
        reference_id = case["reference_id"]
        text, caption = self._text_of.get(reference_id, ""), self._caption_of.get(reference_id)
        if caption is None:
            return Rejection(f"The reference {reference_id} has no caption (captioning rejected its image).")
        shown = self.config.reference_in_prompt
        if shown != "none" and not text.strip():
            return Rejection(f"The reference {reference_id} has neither a text nor a caption.")
        chosen, global_chosen, all_chosen = (self.choose(case, source) for source in (self.config.keywords_from, self.config.global_from, "all"))
        for outcome in (chosen, global_chosen, all_chosen):
            if isinstance(outcome, Rejection):
                return outcome
        words, global_words, all_words = ([entry.keyword for entry in entries] for entries in (chosen, global_chosen, all_chosen))
        shown_text = None if shown == "none" else text
        prompts = {
            name: self.fit_prompt(chosen_words, shown_text) for name, chosen_words in zip(FITTED, (all_words, words, global_words), strict=True)
        }
        for name, prompt in prompts.items():
            self.num_cut[name] += prompt.is_cut
        return {
            "case_id": case["case_id"],
            "keywords": words,
            "counts": [entry.count for entry in chosen],
            **{name: prompt.text for name, prompt in prompts.items()},
            "detailed_prompt": build_detailed_prompt(
                words,
                reference_text=None if shown_text is None else prompts["retrieved_prompt"].title,
                reference_caption=caption if shown == "text+caption" else None,
            ),
        }

    def fit_prompt(self, keywords: Sequence[str], reference_text: str | None) -> FittedText:
        """Build a prompt for the text encoder in which a long title leaves room for the keywords."""
        return self.budget.fit_beginning(build_global_prompt(keywords, reference_text=reference_text), flatten_text(reference_text or ""))

    def choose(self, case: dict[str, Any], source: Source) -> list[CountedKeyword] | Rejection:
        """Choose w' of a case from the items of `source`, or say why there is none."""
        counts_everything = source == "all" or not self._retrieved_of
        sources = self.list_sources(case, "all" if counts_everything else source)
        if not sources:
            return Rejection(f"The case has no {'history' if counts_everything else 'retrieved'} items.")
        counted = count_keywords((self._keywords_of[item_id], weight) for item_id, weight in sources if item_id in self._keywords_of)
        return choose_keywords(counted, self.config) if counted else Rejection("None of the case's items has keywords.")

    def list_sources(self, case: dict[str, Any], source: Source) -> list[tuple[str, float]]:
        """List (item_id, weight) of the items whose keywords count for a case; a history's newest item comes first."""
        if source == "all":
            return [(item_id, 1.0) for item_id in reversed(case["history"])]
        retrieved = self._retrieved_of.get(case["case_id"], [])
        return retrieved if source == "weighted" else [(item_id, 1.0) for item_id, _ in retrieved]


def build_preferences(cases: pa.Table, builder: PreferenceBuilder) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Build the rows of all cases, and the reasons of those that have none."""
    rows, rejected = [], {}
    for case in cases.to_pylist():
        outcome = builder.build(case)
        if isinstance(outcome, Rejection):
            rejected[case["case_id"]] = outcome.reason
        else:
            rows.append(outcome)
    return rows, rejected
