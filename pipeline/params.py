"""Read one block of `params.yaml` into the frozen dataclass that owns it: strict keys, strict types, one clear sentence."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

BLOCKS = (
    "seed", "dataset", "models", "captioning", "embedding", "retrieval", "keywords", "preference", "ranker", "ranker_check", "calibrator",
    "mapper", "reflection", "sd", "ti", "pmg", "comparison", "generation", "evaluation", "report", "runtime",
)  # fmt: skip


def load_params(path: Path, section: str, config_class: type[T]) -> T:
    """Load the block `section` (dotted for nested ones) of `path` as `config_class`; ValueError says what is wrong and where.

    Every stage loads its block here, so a file with a top-level key that nothing reads (a typo) is refused by any stage that runs.
    """
    check_blocks(read_document(path), where=str(path), also=section.split(".")[0])
    block = read_section(path, section)
    if not isinstance(block, dict):
        raise ValueError(f"{path}: `{section}` is {block!r}, but it must be a block of {list_fields(config_class)}.")
    return build_config(block, config_class, where=f"{path}: {section}")


def load_seed(path: Path) -> int:
    """Load the top-level `seed`, an integer >= 0."""
    seed = read_section(path, "seed")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"{path}: `seed` is {seed!r}, but it must be an integer >= 0.")
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
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
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


def build_config(block: dict[str, Any], config_class: type[T], *, where: str) -> T:
    """Build `config_class` from `block`, refusing unknown or missing keys and values of a wrong type."""
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    unknown = sorted(set(block) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown key `{unknown[0]}`; allowed are: {', '.join(sorted(fields))}.")
    missing = sorted(set(fields) - set(block))
    if missing:
        raise ValueError(f"{where}: `{missing[0]}` is missing; all of these are needed: {', '.join(sorted(fields))}.")
    values = {name: coerce_value(block[name], hints[name], where=f"{where}.{name}") for name in fields}
    try:
        return config_class(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def coerce_value(value: Any, hint: Any, *, where: str) -> Any:
    """Return `value` as `hint` (int for float and list for tuple are taken); ValueError otherwise."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return coerce_value(value, next(arg for arg in args if arg is not type(None)), where=where)
    if origin is typing.Literal:
        if value in args:
            return value
        raise ValueError(f"{where} is {value!r}, but it must be one of: {', '.join(map(str, args))}.")
    if origin in (tuple, list):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} is {value!r}, but it must be a list.")
        return tuple(coerce_value(item, args[0], where=f"{where}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"{where} is {value!r}, but it must be a block of {list_fields(hint)}.")
        return build_config(value, hint, where=where)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"{where} is {value!r}, but it must be of type {hint.__name__}.")
    return value


def list_fields(config_class: type) -> str:
    """Return the names of a config's fields, comma separated."""
    return ", ".join(field.name for field in dataclasses.fields(config_class))
