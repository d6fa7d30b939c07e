"""JSON files of a study into their strict dataclasses, whatever anybody has written into them, or one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pipeline.json_files import read_json
from pipeline.params import RULES, name_place, validate

T = TypeVar("T")
OWN_RULES = RULES | {"dataclass_type": "an object"}


def read_strict(path: Path, config_class: type[T], *, where: str) -> T:
    """Read a file as a dataclass, others inside of it included; ValueError says what is wrong first, and where."""
    try:
        return validate(read_json(path), config_class, where=where)
    except ValidationError as error:
        first = error.errors()[0]
        place = name_place(where, first["loc"])
        if first["type"] == "missing":
            raise ValueError(f"{place} is missing.") from error
        if first["type"] == "unexpected_keyword_argument":
            raise ValueError(f"{place} is unknown.") from error
        rule = OWN_RULES.get(first["type"], first["msg"].removeprefix("Input should be ")).format(**first.get("ctx", {}))
        raise ValueError(f"{place} is {first['input']!r}, but it must be {rule}.") from error
