"""The two tasks of the study, as Table 3 has them, in the words that participants read.

Paper: section "Human Evaluation". Its Table 3 ranks the catalogue's own picture in the first task alone: beside the reference, which is that
picture, nothing else could come first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One task; `leaves_out` are methods whose pictures are no candidates in it, `heading` is its column of Table 3."""

    name: str
    heading: str
    question: str
    context: str  # what stands above the pictures that a question is about
    leaves_out: tuple[str, ...] = ()


PERSONALISATION = Task(
    "personalisation",
    "Per.",
    "Which picture would this person click first?",
    "This person has looked at:",
)
MEANING = Task(
    "meaning",
    "Sem.",
    "Which picture shows best what the first picture means?",
    "The first picture:",
    leaves_out=("original",),
)
TASKS = (PERSONALISATION, MEANING)


def list_candidates(task: Task, methods: tuple[str, ...]) -> tuple[str, ...]:
    """Return the methods whose pictures are ranked in a task."""
    return tuple(method for method in methods if method not in task.leaves_out)
