"""What is wrong with an override that fits nothing in conf/: one sentence, with the name that was meant, in place of Hydra's own words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.overrides import LOCAL
from pipeline.yaml_files import read_yaml_mapping

NO_PARAM = re.compile(r"Could not override '(?P<name>[^'@]+)")
NO_CHOICE = re.compile(r"Could not find '(?P<group>[\w./-]+)/(?P<name>[^']+)' Available options in '[^']+': (?P<known>.*?)(?: Config search path|$)")
SEVERAL = re.compile(r"Ambiguous value for argument '(?P<override>[^']+)'")


def explain_override(said: str, conf: Path) -> str:
    """Return one sentence for what Hydra says of an override that does not fit conf/."""
    if match := NO_PARAM.match(said):
        return f"there is no param {match['name']};{suggest(match['name'], list_names(conf)) or ' conf/ has all of them.'}"
    if match := NO_CHOICE.search(said):
        known = match["known"].split()
        close = suggest(match["name"], known)
        return f"{match['group']} is {match['name']!r}, but it must be one of: {', '.join(known)}{f';{close}' if close else '.'}"
    if match := SEVERAL.match(said):
        return f"{match['override']} are several values, which only queued experiments take (ARGS='--queue -S ...'); a list is written [1,2]."
    return said


def list_names(conf: Path) -> list[str]:
    """Return the dotted names of all params in conf/, and its groups."""
    groups = sorted(path.name for path in conf.iterdir() if path.is_dir() and path.name != LOCAL)
    documents = [read_yaml_mapping(conf / "config.yaml")]
    for path in (path for group in groups for path in sorted((conf / group).glob("*.yaml"))):
        document = read_yaml_mapping(path)
        is_global = "@package _global_" in path.read_text(encoding="utf-8-sig").partition("\n")[0]
        documents.append(document if is_global else {path.parent.name: document})
    return sorted({*groups, *(name for document in documents for name in walk_names(document))} - {"defaults"})


def walk_names(block: dict[str, Any], above: Sequence[str] = ()) -> Iterator[str]:
    """Yield the dotted names of a mapping's values."""
    for name, value in block.items():
        yield ".".join([*above, str(name)])
        if isinstance(value, dict):
            yield from walk_names(value, [*above, str(name)])


def walk_values(block: dict[str, Any], above: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every value of a mapping that is no block itself; an empty block is a value."""
    for name, value in block.items():
        if isinstance(value, dict) and value:
            yield from walk_values(value, [*above, str(name)])
        else:
            yield ".".join([*above, str(name)]), value


def suggest(name: str, names: Collection[str]) -> str:
    """Return ` did you mean ...?` for a name that is close to one of `names`, or its last part; empty if none is."""
    ends = [known for known in names if known.endswith(f".{name}")]
    by_simple = {known.casefold(): known for known in names}
    close = [by_simple[simple] for simple in difflib.get_close_matches(name.casefold(), by_simple, n=1)]
    return f" did you mean {(ends or close)[0]}?" if ends or close else ""
