"""What `make use` has chosen for this checkout: the folder `conf/local/`, which git ignores and Hydra composes into the params.

DVC composes conf/ itself at every `dvc exp run`, so a choice that is to hold there too must be a part of conf/. It is written as
`choice.yaml`, the groups and values, and as `<group>/<option>.yaml`, the values below a group's own block: those belong to one option
(`dataset.raw` to the folder, say) and are left out where another one is named (`-S dataset=pog`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.override_errors import walk_values
from pipeline.overrides import LOCAL, NAME, parse_override, write_override
from pipeline.yaml_files import read_yaml_mapping

Choice = dict[str, Any]  # by the dotted names of params and the names of groups, as in {"dataset": "folder", "dataset.raw": "/shop"}

RESET = "--reset"
REMEMBERED = ("dataset", "dataset.raw")  # what a run is about: `make exp ARGS='-S dataset=...'` chooses it for the next ones too
HEAD = "# Written by `make use`; git ignores this folder.\n"


def read_defaults(conf: Path) -> dict[str, str]:
    """Return the option of every group of conf/config.yaml by default."""
    entries = read_yaml_mapping(conf / "config.yaml").get("defaults") or []
    return {
        group: option for entry in entries if isinstance(entry, dict) for group, option in entry.items() if not str(group).startswith("optional ")
    }


def read_choice(conf: Path) -> Choice:
    """Return what is chosen, empty where nothing is."""
    folder, choice = conf / LOCAL, {}
    if (folder / "choice.yaml").is_file():
        document = read_yaml_mapping(folder / "choice.yaml")
        for entry in document.pop("defaults", []):
            choice |= {name.removeprefix("override /"): option for name, option in entry.items()}
        choice |= dict(walk_values(document))
    for path in sorted(folder.glob("*/*.yaml")):
        choice |= dict(walk_values(read_yaml_mapping(path), [path.parent.name]))
    return choice


def write_choice(choice: Choice, conf: Path) -> None:
    """Write the choice in the place of the one before; an empty one leaves nothing behind."""
    folder, groups = conf / LOCAL, read_defaults(conf)
    shutil.rmtree(folder, ignore_errors=True)
    if not choice:
        return
    documents: dict[str, dict[str, Any]] = {"choice.yaml": {}}
    if chosen := [{f"override /{name}": option} for name, option in choice.items() if name in groups]:
        documents["choice.yaml"]["defaults"] = chosen
    for name, value in choice.items():
        if name not in groups:
            first, *rest = name.split(".")
            of_option = first in groups and rest
            place = f"{first}/{choice.get(first, groups[first])}.yaml" if of_option else "choice.yaml"
            set_value(documents.setdefault(place, {}), rest if of_option else [first, *rest], value)
    for place, document in documents.items():
        package = "# @package _global_\n" if place == "choice.yaml" else ""  # Hydra wants it in the first line
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(package + HEAD + yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")


def set_value(document: dict[str, Any], names: Sequence[str], value: Any) -> None:
    """Set a value in nested blocks."""
    for name in names[:-1]:
        document = document.setdefault(name, {})
    document[names[-1]] = value


def change_choice(choice: Choice, overrides: Sequence[str], conf: Path) -> Choice:
    """Return the choice with overrides added; another option of a group takes the values of the one before away, a default one itself too."""
    groups, changed = read_defaults(conf), dict(choice)
    for override in overrides:
        name, value = parse_override(override)
        if name in groups and value != changed.get(name, groups[name]):
            changed = {known: kept for known, kept in changed.items() if known != name and not known.startswith(f"{name}.")}
        changed[name] = value
    return {name: value for name, value in changed.items() if name not in groups or value != groups[name]}


def find_remembered(overrides: Sequence[str]) -> list[str]:
    """Return those overrides that say what a run is about."""
    found = (NAME.fullmatch(override) for override in overrides)
    return [match[0] for match in found if match and match["name"] in REMEMBERED]


@contextlib.contextmanager
def hold_choice(choice: Choice, conf: Path) -> Iterator[None]:
    """Write a choice, and put the one before back if what follows fails."""
    before = read_choice(conf)
    try:
        if choice != before:
            write_choice(choice, conf)
        yield
    except BaseException:
        if choice != before:
            write_choice(before, conf)
        raise


def list_chosen(choice: Choice) -> list[str]:
    """Return the choice as overrides."""
    return [write_override(name, value) for name, value in choice.items()]


def describe_choice(choice: Choice) -> list[str]:
    """Return the line that every command prints while something is chosen."""
    return [f"chosen: {' '.join(list_chosen(choice))} (`make use` says more, `make use ARGS={RESET}` goes back to the default)"] if choice else []
