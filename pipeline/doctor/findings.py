"""What a check answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line: `ok`, a `note` that stops nothing, or what is `wrong` and what to do about it."""

    level: Literal["ok", "note", "wrong"]
    text: str


Check = Callable[[], Finding]


def judge(problem: str | None, text: str) -> Finding:
    """Return the problem as wrong, or the text as ok if there is none."""
    return Finding("ok", text) if problem is None else Finding("wrong", problem)
