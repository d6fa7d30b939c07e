"""Cases joined with their preference: what reflection trains on and generation draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.artifacts import get_matrix


@dataclass(frozen=True)
class Case:
    """One (user, reference item) with its preference."""

    case_id: str
    user_id: str
    reference_id: str
    truth_id: str | None
    history: tuple[str, ...]  # oldest first
    keywords: tuple[str, ...]  # w', most frequent first
    keyword_prompt: str  # the reference's text and the whole history's keywords
    retrieved_prompt: str  # the reference's text and w'
    global_prompt: str  # text of E^g
    detailed_prompt: str  # p_g without the [IMG] tokens
    look: bytes = b""  # look tokens (M, d), float32 one behind the other; empty without a look


def select_cases(cases: pa.Table, preferences: pa.Table | None, splits: Sequence[str], looks: pa.Table | None = None) -> list[Case]:
    """Return the cases of `splits` in case_id order; ValueError if there is none.

    A case without a preference row is left out (the preference stage has rejected it with a reason); without a preference
    table, for methods that read none, every case is taken and its keywords and prompts are empty.
    """
    preference_of = {row["case_id"]: row for row in preferences.to_pylist()} if preferences is not None else None
    look_of = map_looks(looks)
    chosen = [
        build_case(row, preference_of[row["case_id"]] if preference_of is not None else {}, look_of.get(row["case_id"], b""))
        for row in cases.to_pylist()
        if row["split"] in splits and (preference_of is None or row["case_id"] in preference_of)
    ]
    if not chosen:
        raise ValueError(f"no case of the splits {', '.join(splits)} has a preference.")
    return sorted(chosen, key=lambda case: case.case_id)


def map_looks(looks: pa.Table | None) -> dict[str, bytes]:
    """Return every case's look tokens by case_id, as `Case` holds them."""
    if looks is None or not len(looks):
        return {}
    return {case_id: tokens.tobytes() for case_id, tokens in zip(looks["case_id"].to_pylist(), get_matrix(looks, "tokens"), strict=True)}


def build_case(row: dict[str, Any], preference: dict[str, Any], look: bytes = b"") -> Case:
    """Join a row of the cases table with its row of the preferences table, which may be empty, and its look tokens."""
    return Case(
        case_id=row["case_id"],
        user_id=row["user_id"],
        reference_id=row["reference_id"],
        truth_id=row["truth_id"],
        history=tuple(row["history"]),
        keywords=tuple(preference.get("keywords", ())),
        keyword_prompt=preference.get("keyword_prompt", ""),
        retrieved_prompt=preference.get("retrieved_prompt", ""),
        global_prompt=preference.get("global_prompt", ""),
        detailed_prompt=preference.get("detailed_prompt", ""),
        look=look,
    )
