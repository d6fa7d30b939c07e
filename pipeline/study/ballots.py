"""Read the ballots that participants send back: files that anybody may have written, each counted or refused with one reason.

A ballot is refused if it is too large, no such JSON, of another study, if it does not answer every question of its page exactly once with the
pictures of that question, if it is a copy of another one, or if two ballots that differ carry one participant's code: which is the right one
nobody here can know. Who fails attention checks is set aside as well, by a rule that does not look at the other answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le, MaxLen, MinLen

from pipeline.config import config_dataclass
from pipeline.study.key import Key, Question
from pipeline.study.page import BALLOT_FORMAT
from pipeline.study.strict_json import read_strict
from pipeline.terminal import show

MAX_BYTES = 2**20  # a ballot of 1,000 questions has a fifth of it
MAX_BALLOTS = 10_000
MAX_REASON = 240  # characters: a reason may quote what is in the file
Id = Annotated[str, MinLen(1), MaxLen(40)]
Pictures = Annotated[tuple[Id, ...], MinLen(1), MaxLen(100)]


@config_dataclass
class Answer:
    """A question's pictures, the best first, and as they were shown."""

    question: Id
    order: Pictures
    shown: Pictures
    seconds: Annotated[float, Ge(0), Le(1e6)]


@config_dataclass
class Ballot:
    """What a page's file holds; `ballot` tells two people with one code from one person who has saved twice."""

    format: Id
    study: Id
    group: Id
    participant: Id
    ballot: Id
    answers: Annotated[tuple[Answer, ...], MaxLen(10_000)]

    @property
    def code(self) -> str:
        """The participant, however the code was typed."""
        return self.participant.strip().casefold()

    def list_orders(self) -> dict[str, tuple[str, ...]]:
        """Return the order of every question."""
        return {answer.question: answer.order for answer in self.answers}


@dataclass(frozen=True)
class Refused:
    """A file that is not counted, and why."""

    file: str
    reason: str


@dataclass
class Returned:
    """The ballots that count, those whose participants failed the checks, and files that are refused."""

    counted: list[Ballot] = field(default_factory=list)
    inattentive: list[Refused] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def read_ballots(paths: Sequence[Path], key: Key, *, max_failed: int) -> Returned:
    """Read the files, and those in the folders, in the order of their names; a ballot may fail `max_failed` attention checks."""
    returned = Returned()
    valid: list[tuple[str, Ballot]] = []
    for path in list_files(paths):
        try:
            valid.append((path.name, read_ballot(path, key)))
        except (OSError, ValueError) as error:
            returned.refused.append(Refused(path.name, clean_reason(str(error), path)))
    for name, ballot in drop_doubles(valid, returned.refused):
        failed, asked = count_failed(ballot, key.groups[ballot.group])
        if failed > max_failed:
            reason = f"{ballot.participant!r} fails {failed} of {asked} attention checks; {max_failed} may be failed."
            returned.inattentive.append(Refused(name, clean_reason(reason)))
        else:
            returned.counted.append(ballot)
    returned.counted.sort(key=lambda ballot: ballot.code)
    return returned


def list_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files, and the JSON files of the folders; ValueError if a path is none, or if there are too many or none."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path} does not exist; put the ballots there, or name the files or folders that hold them.")
        own = [path] if not path.is_dir() else (file for file in path.iterdir() if file.suffix.lower() == ".json")
        found |= dict.fromkeys(own)
    if not found:
        raise ValueError(f"there is no ballot (*.json) in {', '.join(map(str, paths))}.")
    if len(found) > MAX_BALLOTS:
        raise ValueError(f"there are {len(found):,} ballots, but at most {MAX_BALLOTS:,} are read.")
    return sorted(found, key=lambda path: (path.name, str(path)))


def read_ballot(path: Path, key: Key) -> Ballot:
    """Read one ballot; ValueError says why it cannot be counted."""
    if not path.is_file():
        raise ValueError("it is no file.")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it is larger than the {MAX_BYTES:,} bytes that a ballot may have.")
    ballot = read_strict(path, Ballot, where="the ballot")
    if ballot.format != BALLOT_FORMAT:
        raise ValueError(f"format is {ballot.format!r}, but it must be {BALLOT_FORMAT!r}.")
    if ballot.study != key.study:
        raise ValueError(f"it is of the study {ballot.study!r}, but the key is of {key.study!r}.")
    if ballot.group not in key.groups:
        raise ValueError(f"the study has no group {ballot.group!r}; it has: {', '.join(key.groups)}.")
    if not ballot.code:
        raise ValueError("the participant's code is empty.")
    check_answers(ballot, key.groups[ballot.group])
    return ballot


def check_answers(ballot: Ballot, questions: dict[str, Question]) -> None:
    """Raise ValueError unless every question is answered exactly once, with its own pictures."""
    asked = [answer.question for answer in ballot.answers]
    if unknown := [question for question in asked if question not in questions]:
        raise ValueError(f"it answers the question {unknown[0]!r}, which its page does not ask.")
    if len(set(asked)) < len(asked):
        twice = next(question for question in asked if asked.count(question) > 1)
        raise ValueError(f"it answers the question {twice!r} twice.")
    if len(asked) < len(questions):
        raise ValueError(f"it answers {len(asked):,} of {len(questions):,} questions.")
    for answer in ballot.answers:
        pictures = sorted(questions[answer.question].list_pictures())
        for name, given in (("order", answer.order), ("shown", answer.shown)):
            if sorted(given) != pictures:
                raise ValueError(f"question {answer.question!r}: {name} must hold each of its {len(pictures)} pictures once.")


def drop_doubles(valid: Sequence[tuple[str, Ballot]], refused: list[Refused]) -> list[tuple[str, Ballot]]:
    """Return one ballot a participant; copies and ballots that contradict each other are named in `refused`."""
    of_code: dict[str, list[tuple[str, Ballot]]] = {}
    for name, ballot in valid:
        of_code.setdefault(ballot.code, []).append((name, ballot))
    kept = []
    for own in of_code.values():
        (first_name, first), *others = own
        if all((ballot.group, ballot.list_orders()) == (first.group, first.list_orders()) for _, ballot in others):
            kept.append((first_name, first))
            refused += [Refused(name, clean_reason(f"it is a copy of {first_name}.")) for name, _ in others]
            continue
        names = ", ".join(name for name, _ in own)
        saved = "one person has saved" if len({ballot.ballot for _, ballot in own}) == 1 else "two browsers have saved"
        reason = f"{saved} different answers under the code {first.participant!r}: {names}; leave only the right file there."
        refused += [Refused(name, clean_reason(reason)) for name, _ in own]
    return kept


def count_failed(ballot: Ballot, questions: dict[str, Question]) -> tuple[int, int]:
    """Return how many attention checks a ballot fails, and how many there are."""
    orders = ballot.list_orders()
    checks = {name: question for name, question in questions.items() if question.is_check}
    return sum(orders[name][: len(check.right)] != check.right for name, check in checks.items()), len(checks)


def clean_reason(text: str, path: Path | None = None) -> str:
    """Return a reason in one line of bounded length, without the folder that a file lies in."""
    shown = show((text.replace(str(path), path.name) if path else text).strip())
    return shown if len(shown) <= MAX_REASON else f"{shown[: MAX_REASON - 1]}…"
