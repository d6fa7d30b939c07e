"""Read one block of `params.yaml` into the frozen dataclass that owns it: strict keys, strict types, one clear sentence."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import ErrorDetails

from pipeline.yaml_files import read_yaml_mapping

T = TypeVar("T")

BLOCKS = (
    "seed", "dataset", "models", "captioning", "embedding", "retrieval", "keywords", "look", "preference", "ranker", "ranker_check", "calibrator",
    "mapper", "reflection", "sd", "ti", "ti_retrieved", "pmg", "pmg_retrieved", "glide", "lavit", "comparison", "generation", "evaluation",
    "report", "runtime",
)  # fmt: skip
UNKNOWN, MISSING = "unexpected_keyword_argument", "missing"
RULES = {
    "greater_than_equal": ">= {ge:g}",
    "greater_than": "> {gt:g}",
    "less_than_equal": "<= {le:g}",
    "less_than": "< {lt:g}",
    "tuple_type": "a list",
    "too_short": "a list of {min_length} or more",
    "string_too_short": "a text that is not empty",
}


def load_params(path: Path, section: str, config_class: type[T]) -> T:
    """Load the block `section` (dotted for nested ones) of `path` as `config_class`; ValueError says what is wrong and where.

    Every stage loads its block here, so a file with a top-level key that nothing reads (a typo) is refused by any stage that runs.
    """
    check_blocks(read_document(path), where=str(path), also=section.split(".")[0])
    return build_config(read_section(path, section), config_class, where=f"{path}: {section}")


def load_seed(path: Path) -> int:
    """Load the top-level `seed`, an integer >= 0."""
    return check_seed(read_section(path, "seed"), where=str(path))


def check_seed(seed: Any, *, where: str) -> int:
    """Return the seed if it is one."""
    if type(seed) is not int or seed < 0:
        raise ValueError(f"{where}: `seed` is {seed!r}, but it must be an integer >= 0.")
    return seed


def read_flag(path: Path, name: str) -> bool:
    """Read the true or false at the dotted `name`."""
    value = read_section(path, name)
    if type(value) is not bool:
        raise ValueError(f"{path}: `{name}` is {value!r}, but it must be true or false.")
    return value


def check_blocks(document: dict[str, Any], *, where: str, also: str = "seed") -> None:
    """Raise ValueError if the params have a top-level key that is neither one of BLOCKS nor `also`."""
    unknown = sorted(set(map(str, document)) - {*BLOCKS, also})
    if unknown:
        raise ValueError(f"{where}: unknown key `{unknown[0]}` at the top level; allowed are: {', '.join(BLOCKS)}.")


def read_document(path: Path) -> dict[str, Any]:
    """Read the whole file."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; `make params` composes it from conf/.")
    value = read_yaml_mapping(path)
    if not value:
        raise ValueError(f"{path} holds no params; `make params` composes it from conf/.")
    return value


def read_section(path: Path, section: str) -> Any:
    """Return the raw value at the dotted name `section`."""
    value: Any = read_document(path)
    for i, name in enumerate(section.split(".")):
        if not isinstance(value, dict) or name not in value:
            known = ", ".join(sorted(map(str, value))) if isinstance(value, dict) else "none"
            parent = ".".join(section.split(".")[:i]) or "the top level"
            raise ValueError(f"{path}: there is no `{section}`; {parent} has: {known}.")
        value = value[name]
    return value


def build_config(block: Any, config_class: type[T], *, where: str) -> T:
    """Build `config_class` from `block`; ValueError says which key or value is wrong and what is allowed."""
    try:
        return validate(block, config_class, where=where)
    except ValidationError as error:
        raise ValueError(explain_errors(error.errors(), config_class, where=where)) from error


def find_fault(block: Any, config_class: type, *, where: str) -> str | None:
    """Return one sentence for what is wrong with the values that a block has, whatever it lacks; None if nothing is."""
    try:
        validate(block, config_class, where=where)
    except ValidationError as error:
        given = [entry for entry in error.errors() if entry["type"] != MISSING]
        return explain_errors(given, config_class, where=where) if given else None
    return None


def validate(block: Any, config_class: type[T], *, where: str) -> T:
    """Build `config_class`; ValidationError holds all that is wrong."""
    assert is_pydantic_dataclass(config_class), f"{config_class.__name__} is no config_dataclass"
    try:
        text = json.dumps(block, default=str)  # as JSON, a strict config takes lists for tuples and blocks for nested configs
    except TypeError as error:
        raise ValueError(f"{where}: {error}.") from error
    return TypeAdapter(config_class).validate_json(text)


def explain_errors(errors: Sequence[ErrorDetails], config_class: type, *, where: str) -> str:
    """Return one sentence for the first thing that is wrong, an unknown key before all others (it is a typo of a missing one)."""
    first = min(errors, key=lambda entry: entry["type"] != UNKNOWN)
    kind, path, context = first["type"], first["loc"], first.get("ctx", {})
    if kind in (UNKNOWN, MISSING):
        place, names = name_place(where, path[:-1]), list_fields(config_class, path[:-1])
        says = f"unknown key `{path[-1]}`; allowed are" if kind == UNKNOWN else f"`{path[-1]}` is missing; all of these are needed"
        return f"{place}: {says}: {names}."
    place = name_place(where, path)
    if kind == "value_error":
        return f"{place}: {context['error']}"
    if kind == "dataclass_type":
        rule = f"a block of {list_fields(config_class, path)}"
    else:
        rule = RULES[kind].format(**context) if kind in RULES else first["msg"].removeprefix("Input should be ")
    return f"{place} is {first['input']!r}, but it must be {rule}."


def name_place(where: str, path: tuple[str | int, ...]) -> str:
    """Return the full name of a value, e.g. `params.yaml: generation.splits[0]`."""
    return where + "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in path)


def list_fields(config_class: type, path: tuple[str | int, ...]) -> str:
    """Return the names of the fields of a config, or of the one at `path` in it, comma separated; a number stands for an entry of a list."""
    for name in path:
        config_class = typing.get_args(config_class)[0] if isinstance(name, int) else typing.get_type_hints(config_class)[name]
    return ", ".join(sorted(field.name for field in dataclasses.fields(config_class)))
