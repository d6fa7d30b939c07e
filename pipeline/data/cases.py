"""Cases joined with their preference: what reflection trains on and generation draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Case:
    """One (user, reference item) with its preference."""

    case_id: str
    user_id: str
    reference_id: str
    truth_id: str | None
    history: tuple[str, ...]  # oldest first
    keywords: tuple[str, ...]  # w', most frequent first
    global_prompt: str  # text of E^g
    detailed_prompt: str  # p_g without the [IMG] tokens


def select_cases(cases: pa.Table, preferences: pa.Table, splits: Sequence[str]) -> list[Case]:
    """Return the cases of `splits` that have a preference row, in case_id order; ValueError if there is none."""
    preference_of = {row["case_id"]: row for row in preferences.to_pylist()}
    chosen = [
        Case(
            case_id=row["case_id"],
            user_id=row["user_id"],
            reference_id=row["reference_id"],
            truth_id=row["truth_id"],
            history=tuple(row["history"]),
            keywords=tuple(preference_of[row["case_id"]]["keywords"]),
            global_prompt=preference_of[row["case_id"]]["global_prompt"],
            detailed_prompt=preference_of[row["case_id"]]["detailed_prompt"],
        )
        for row in cases.to_pylist()
        if row["split"] in splits and row["case_id"] in preference_of
    ]
    if not chosen:
        raise ValueError(f"no case of the splits {', '.join(splits)} has a preference.")
    return sorted(chosen, key=lambda case: case.case_id)
