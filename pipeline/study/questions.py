"""From cases to blinded questions: ids that tell nothing, attention checks among them, and the key that is kept apart.

Attention checks, which are no figures of the study: in the first task, letters to be put in order; in the second, the first picture itself
among other items' pictures. Order on the screen is drawn in the page, for every participant anew.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.study.key import FORMAT, Key, Question
from pipeline.study.material import Material, StudyCase
from pipeline.study.tasks import MEANING, PERSONALISATION, TASKS, Task, list_candidates

ID_DIGITS = 12
NUM_STRANGERS = 2
CARDS = "ABC"  # no numbers, for these are the pictures' keys
CARD_TEXT = "Attention check: whatever you like best, put the letters in the order of the alphabet, A first."
ITEM, DRAWN, CARD = "item", "drawn", "card"


@dataclass(frozen=True)
class Source:
    """Where a picture comes from: an item (`name`), a drawn picture of a case by a method, or a card with a letter on it."""

    kind: str
    name: str
    method: str = ""


@dataclass(frozen=True)
class ShownQuestion:
    """What a page knows of a question: ids of the pictures above, ids of the pictures to rank, in an order that tells nothing."""

    id: str
    task: str
    text: str
    context: tuple[str, ...]
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """Everything that a group's page shows: its questions, and where each picture comes from."""

    group: str
    questions: list[ShownQuestion]
    sources: dict[str, Source]


def build_study(
    material: Material,
    methods: tuple[str, ...],
    *,
    num_groups: int,
    same_cases: bool,
    num_checks: int,
    seed: int,
    facts: dict[str, object],
) -> tuple[Key, list[Sheet]]:
    """Return the key and a sheet for every group, each with its own share of the cases, or all with the same; `facts` are the key's other fields."""
    digest = material.compute_digest(methods, num_groups, same_cases, num_checks, seed)
    shares = share_cases(material.cases, num_groups, same_cases=same_cases)
    groups, sheets = {}, []
    for number, cases in enumerate(shares, start=1):
        group = str(number)
        sheet, questions = build_sheet(group, cases, methods, material.items, num_checks=num_checks, digest=digest)
        groups[group], sheets = questions, [*sheets, sheet]
    study = hash_names("study", digest)
    return Key(format=FORMAT, study=study, methods=methods, groups=groups, **facts), sheets


def share_cases(cases: Sequence[StudyCase], num_groups: int, *, same_cases: bool) -> list[Sequence[StudyCase]]:
    """Return every group's cases: all, or as many as each other group has; ValueError if that is none."""
    if same_cases:
        return [cases] * num_groups
    size = len(cases) // num_groups
    if not size:
        raise ValueError(f"{len(cases)} cases are too few for {num_groups} groups with cases of their own; make fewer groups, or add --same-cases.")
    return [cases[start : start + size] for start in range(0, size * num_groups, size)]


def build_sheet(
    group: str, cases: Sequence[StudyCase], methods: tuple[str, ...], items: Mapping[str, bytes], *, num_checks: int, digest: str
) -> tuple[Sheet, dict[str, Question]]:
    """Return a group's sheet, and its part of the key."""
    questions: dict[str, Question] = {}
    shown: list[ShownQuestion] = []
    sources: dict[str, Source] = {}

    def name(*names: object) -> str:
        return hash_names(digest, group, *names)

    def place(source: Source, *names: object) -> str:
        picture = name(source, *names)
        sources[picture] = source
        return picture

    def ask(task: Task, case: StudyCase, context: tuple[str, ...], question: Question, text: str) -> None:
        own = name(task.name, case.case_id, question.is_check)
        questions[own] = question
        shown.append(ShownQuestion(own, task.name, text, context, tuple(sorted(question.list_pictures()))))

    for task in TASKS:
        for case in cases:
            candidates = {place(Source(DRAWN, case.case_id, method), "candidate"): method for method in list_candidates(task, methods)}
            ask(task, case, place_context(task, case, place), Question(task=task.name, case_id=case.case_id, methods=candidates), case.text)
    for case in choose_checked(cases, num_checks, digest=digest):
        cards = tuple(place(Source(CARD, letter), case.case_id) for letter in CARDS)
        check = Question(task=PERSONALISATION.name, case_id=case.case_id, pictures=cards, right=cards)
        ask(PERSONALISATION, case, place_context(PERSONALISATION, case, place), check, CARD_TEXT)
        itself = place(Source(ITEM, case.reference_id), "candidate", case.case_id)
        strangers = [place(Source(ITEM, item_id), "candidate", case.case_id) for item_id in list_strangers(case, cases, items)]
        if strangers:
            check = Question(task=MEANING.name, case_id=case.case_id, pictures=(itself, *strangers), right=(itself,))
            ask(MEANING, case, place_context(MEANING, case, place), check, case.text)
    return Sheet(group, sorted(shown, key=lambda question: question.id), dict(sorted(sources.items()))), questions


def place_context(task: Task, case: StudyCase, place: Callable[..., str]) -> tuple[str, ...]:
    """Return the pictures above a question: the history, or the reference."""
    item_ids = (case.reference_id,) if task is MEANING else case.history
    return tuple(place(Source(ITEM, item_id), "context") for item_id in item_ids)


def choose_checked(cases: Sequence[StudyCase], num_checks: int, *, digest: str) -> list[StudyCase]:
    """Choose the cases beside which an attention check stands, by the study's digest."""
    return random.Random(f"checks:{digest}").sample(list(cases), min(num_checks, len(cases)))


def list_strangers(case: StudyCase, cases: Sequence[StudyCase], items: Mapping[str, bytes]) -> list[str]:
    """Return the references of two other cases, whose pictures are not this one's."""
    others = {other.reference_id for other in cases if items[other.reference_id] != items[case.reference_id]}
    return sorted(others, key=lambda item_id: hash_names(case.case_id, item_id))[:NUM_STRANGERS]


def hash_names(*names: object) -> str:
    """Return an id that follows from the names and tells nothing of them."""
    return hashlib.sha256("\x1f".join(map(str, names)).encode()).hexdigest()[:ID_DIGITS]
