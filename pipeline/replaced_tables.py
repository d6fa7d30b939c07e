"""Before a run replaces the tables of one data set by those of another: whose they are, and how to get them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.integrity.lock import read_params
from pipeline.override_errors import walk_values
from pipeline.yaml_files import read_yaml_mapping

STAGE = "dataset"
TABLES = Path("data/dataset")


def describe_replaced(params: dict[str, Any], root: Path, *, conf: Path, removed: bool = False) -> list[str]:
    """Return a sentence if data/dataset holds another data set than the one that the params name, none otherwise.

    `removed`: DVC, about to run the stage, has removed the tables already.
    """
    held = read_params(root, STAGE).get(STAGE)
    if not isinstance(held, dict) or not (removed or (root / TABLES / "items.parquet").exists()):
        return []
    old = name_data_set(held, conf)
    new = name_data_set(params.get(STAGE), conf, like=old)
    if old == new:
        return []
    return [
        f"note: {TABLES} {'held' if removed else 'holds'} the tables of {old}; this run puts those of {new} in their place. DVC's cache keeps the "
        f"old ones and all that was made from them: make use ARGS='{old}', then `make repro`, brings them back without computing."
    ]


def name_data_set(block: Any, conf: Path, *, like: str = "") -> str:
    """Return the overrides that lead to a data set: the option of conf/dataset/ that is most like it, and its raw files if they lie elsewhere.

    Of two options that are as much like it, the one in `like` counts: the same data set in another size is not another one.
    """
    block = block if isinstance(block, dict) else {}
    options = {path.stem: read_option(path) for path in sorted((conf / STAGE).glob("*.yaml"))}
    options = {name: option for name, option in options.items() if option.get("name") == block.get("name")}
    if not options:
        return f"{STAGE}={block.get('name')}"
    values = dict(walk_values(block))

    def compare(name: str) -> tuple[int, bool]:
        return sum(values.get(key, ...) == value for key, value in walk_values(options[name])), f"{STAGE}={name}" == like.split(" ")[0]

    best = max(options, key=compare)
    raw = block.get("raw")
    return f"{STAGE}={best}" if raw == options[best].get("raw") else f"{STAGE}={best} {STAGE}.raw={raw}"


def read_option(path: Path) -> dict[str, Any]:
    """Read one option of a group, with those that it builds on; one that sets other blocks too (`@package _global_`) has its own as a block."""
    option = read_yaml_mapping(path)
    bases = [base for base in option.pop("defaults", []) if base != "_self_"]
    option = option.get(path.parent.name, option)
    merged: dict[str, Any] = {}
    for base in bases:
        merged |= read_option(path.with_name(f"{base}.yaml"))
    return merged | option
