"""YAML files: read as plain values, or one sentence. A person's file may be a typo or an attack; neither runs code, fills memory or crashes.

Refused are tags other than YAML's own for plain values (`!!python/object`, `!foo`), a key that a mapping has twice, anchors that stand for more
than MAX_VALUES values in all ("billion laughs"), and what is nested deeper than MAX_DEPTH, for which the C parser overflows its stack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 50
MAX_VALUES = 100_000  # aliases counted as what they stand for
CHARACTERS_A_VALUE = 64  # of a longer text every so many count as one more value
CORE = "tag:yaml.org,2002:"
PLAIN_TAGS = tuple(f"{CORE}{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))


class StrictLoader(yaml.CSafeLoader):
    """Builds plain values; a key that is there twice is an error instead of the last one counting."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys differ."""
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != f"{CORE}merge":
                key = (key_node.tag, key_node.value)
                if key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key `{key_node.value}` is there twice", key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Return the file's one document, None for an empty file; ValueError says what is wrong, and in which line."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than the allowed {MAX_BYTES:,} bytes.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        _check_events(text)
        return yaml.load(text, Loader=StrictLoader)
    except yaml.YAMLError as error:
        raise ValueError(_explain(path, error)) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start + 1:,}); save it in the encoding UTF-8.") from error
    except (ValueError, TypeError) as error:  # of a value's own type: a date that no calendar has, a number of 5,000 digits
        raise ValueError(f"{path} holds a value that cannot be read ({error}).") from error


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Return the file's mapping, an empty one for an empty file; ValueError if it holds anything else."""
    value = read_yaml(path)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, but it must hold names with values (`name: value`).")
    return value or {}


def _check_events(text: str) -> None:
    """Raise YAMLError for what must not be built; events come one by one, so nothing large or deep exists yet."""
    depth = values = 0
    sizes: dict[str, int] = {}  # of what an anchor stands for
    open_anchors: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in PLAIN_TAGS:
            _refuse(event, f"the tag {_shorten(tag)} is not allowed; write a plain value without a tag")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            open_anchors.append((event.anchor, values))
            if depth > MAX_DEPTH:
                _refuse(event, f"the values are nested deeper than the allowed {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            anchor, before = open_anchors.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            size = 1 + len(event.value) // CHARACTERS_A_VALUE
            values += size - 1
            if event.anchor is not None:
                sizes[event.anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                _refuse(event, f"the alias `*{event.anchor}` stands for nothing, or for something that holds it")
            values += sizes[event.anchor]
        values += isinstance(event, yaml.NodeEvent)
        if values > MAX_VALUES:
            _refuse(event, f"the file stands for more than the allowed {MAX_VALUES:,} values, aliases counted as what they stand for")


def _refuse(event: yaml.Event, problem: str) -> None:
    raise yaml.MarkedYAMLError(None, None, problem, event.start_mark)


def _shorten(tag: str) -> str:
    return f"`!!{tag.removeprefix(CORE)}`" if tag.startswith(CORE) else f"`{tag}`"


def _explain(path: Path, error: yaml.YAMLError) -> str:
    """Return one sentence, with the line where there is one."""
    if not isinstance(error, yaml.MarkedYAMLError):  # of the reader: a character that YAML does not allow
        return f"{path} is no readable YAML file ({' '.join(str(error).split())})."
    mark = error.problem_mark or error.context_mark
    where = f"{path}, line {mark.line + 1:,}" if mark else str(path)
    return f"{where}: {' '.join(filter(None, (error.context, error.problem)))}."
