"""The key of a study: which picture of a page is by which method. It stays with whoever holds the study and is in no page.

Question and picture ids are drawn from the seed and from everything that is shown, so equal runs give equal pages, and an id tells nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from pathlib import Path

from pipeline.config import Count, config_dataclass
from pipeline.json_files import write_json
from pipeline.study.strict_json import read_strict

KEY = "key.json"
FORMAT = "study-key/1"


@config_dataclass
class Question:
    """One question of a page: pictures by id with the method that drew each, or, of an attention check, the ids that must come first, in order."""

    task: str
    case_id: str
    methods: dict[str, str] = field(default_factory=dict)  # picture -> method
    pictures: tuple[str, ...] = ()  # of a check: all of them
    right: tuple[str, ...] = ()

    @property
    def is_check(self) -> bool:
        """Say whether this is an attention check."""
        return bool(self.right)

    def list_pictures(self) -> set[str]:
        """Return the ids of the pictures that are ranked."""
        return set(self.pictures or self.methods)


@config_dataclass
class Key:
    """The key of all pages: by group, questions by id. `profile`, `dataset` and `seed` say of which run the pictures are."""

    format: str
    study: str
    dataset: str
    profile: str
    seed: int
    history: str
    methods: tuple[str, ...]
    num_participants: Count  # that the study is planned for, in all groups
    groups: dict[str, dict[str, Question]]

    def list_cases(self) -> list[str]:
        """Return the cases that are shown to any group."""
        return sorted({question.case_id for questions in self.groups.values() for question in questions.values() if not question.is_check})


def write_key(path: Path, key: Key) -> None:
    """Write the key; ValueError where another study's key lies, without which its ballots would say nothing."""
    if path.exists() and read_key(path).study != key.study:
        raise ValueError(f"{path} is the key of another study, whose ballots nobody could read without it; choose another folder with --out.")
    write_json(path, dataclasses.asdict(key))


def read_key(path: Path) -> Key:
    """Read a key; ValueError if there is none, or if it is no key of this format."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; `make study` writes it beside the pages, and only that key fits their ballots.")
    key = read_strict(path, Key, where=str(path))
    if key.format != FORMAT:
        raise ValueError(f"{path}: format is {key.format!r}, but it must be {FORMAT!r}.")
    return key
