"""Overrides of params as people type them (`dataset.raw=~/my pics (1)`), written so that Hydra reads them as they are meant.

Hydra's grammar knows quotes, lists and sweeps, so a value with a letter that is no ASCII, a bracket, a quote or an equals sign is a syntax
error to it. What Hydra can read stays as it is; what it cannot, or what names a file that is there, is taken letter by letter.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAME = re.compile(r"(?P<name>(~|\+{1,2})?[A-Za-z_][\w./@:-]*)=(?P<value>.*)", re.DOTALL)
REMOVAL = re.compile(r"~[A-Za-z_][\w./@:-]*")
SETTERS = ("-S", "--set-param")  # the option before an override in `make exp`
LOCAL = "local"  # the folder of conf/ that holds what `make use` has chosen
HOW = """a value with spaces, brackets or commas needs quotes of its own inside of ARGS='...', as in ARGS='dataset.raw="/data/my pics (1)"'"""


def split_arguments(text: str) -> list[str]:
    """Split what stands in ARGS into words, by quotes and spaces alone, where a shell would do more; ValueError says how to quote."""
    splitter = shlex.shlex(text, posix=True, punctuation_chars=False)
    splitter.whitespace_split, splitter.commenters, splitter.escape = True, "", ""
    try:
        return [os.path.expandvars(word.replace("$$", "$")) for word in splitter]  # who knows make writes $$HOME
    except ValueError as error:
        raise ValueError(f"ARGS has a quote that is not closed: {text}; {HOW}, and a value with an apostrophe too.") from error


def split_words(arguments: Sequence[str]) -> list[str]:
    """Put the words that the Makefile hands on behind `--args`, at the end of a command line, in its place."""
    return [*arguments[:-2], *split_arguments(arguments[-1])] if arguments[-2:-1] == ["--args"] else list(arguments)


def take_option(words: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """Return the values that an option has been given, and the words without it; ValueError if one has no value."""
    values, rest, following = [], [], iter(words)
    for word in following:
        if word == option:
            values.append(next(following, ""))
        elif word.startswith(f"{option}="):
            values.append(word.removeprefix(f"{option}="))
        else:
            rest.append(word)
    if not all(values):
        raise ValueError(f"{option} stands there without its value; write it behind, as in {option} NAME.")
    return values, rest


def match_setter(word: str) -> str | None:
    """Return the option that a word is, or begins with: `-S`, `-Sk=7`, `--set-param=k=7`; None for other words."""
    return next((name for name in SETTERS if word == name or word.startswith(f"{name}=") or (name == "-S" and word.startswith(name))), None)


def drop_setters(words: Sequence[str]) -> list[str]:
    """Return the overrides of words, where one may stand behind `-S` as in `make exp`, or alone; ValueError if nothing stands behind one."""
    overrides, following = [], iter(words)
    for word in following:
        option = match_setter(word)
        override = next(following, "") if word == option else word.removeprefix(option or "").removeprefix("=" if option else "")
        if option and not override:
            raise ValueError(f"{option} stands there without an override; write it behind, as in {option} retrieval.k=7.")
        overrides.append(override)
    return overrides


def clean_overrides(overrides: Sequence[str], *, queued: bool = False) -> list[str]:
    """Return the overrides as Hydra reads them; ValueError says which one is none, and how to quote it.

    `a=1,2` are two values, and so are two paths, but those only of `queued` experiments: elsewhere the comma belongs to a path.
    """
    return [clean_override(override, queued=queued) for override in overrides]


def clean_override(override: str, *, queued: bool = False) -> str:
    """Return one override as Hydra reads it, its value quoted if need be."""
    if REMOVAL.fullmatch(override):
        return override
    match = NAME.fullmatch(override)
    if match is None and override == "--set":  # of the experiments
        raise ValueError(f"{override} is not written here; params stand alone or behind -S, as in ARGS='-S retrieval.k=7 -S dataset=folder'.")
    if match is None:
        raise ValueError(f"{override!r} is no override: it must be name=value, as in retrieval.k=7; {HOW}.")
    return f"{match['name']}={clean_value(match['value'], queued=queued)}"


def clean_value(value: str, *, queued: bool) -> str:
    """Return a value that Hydra reads as it is meant; a leading `~` becomes the home folder, which shells leave alone behind an equals sign."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    value = os.path.expanduser(value) if value.startswith("~") else value
    try:
        parsed = OverridesParser.create().parse_override(f"x={value}")
    except HydraException:
        return quote(value)
    meant = parsed.value()
    if isinstance(meant, str):
        return quote(os.path.expanduser(meant)) if meant.startswith("~") else value
    is_path = is_there(value) or (parsed.is_sweep_override() and "/" in value and not queued)
    return quote(value) if is_path else value


def parse_override(override: str) -> tuple[str, Any]:
    """Return the name and the value of an override that sets one; ValueError for one that adds, removes or is several."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(clean_override(override))
    if parsed.is_delete() or parsed.is_add() or parsed.is_force_add() or parsed.is_sweep_override() or "@" in override.partition("=")[0]:
        raise ValueError(f"{override} cannot be chosen; only name=value can, as in dataset=folder.")
    return str(parsed.key_or_group), parsed.value()


def write_override(name: str, value: Any) -> str:
    """Return the override that sets a value, for people and for Hydra."""
    if isinstance(value, str):
        plain = f"{name}={value}"
        return plain if value and clean_override(plain) == plain and parse_override(plain)[1] == value else f"{name}={quote(value)}"
    return f"{name}={json.dumps(value, ensure_ascii=False)}"


def is_there(value: str) -> bool:
    """Say whether a value is the name of a file or folder; a plain number or word of YAML is that, whatever files are called."""
    try:
        return bool(re.search(r"[^\w.+-]", value)) and Path(value).exists()
    except (OSError, ValueError):  # too long, or with a NUL in it
        return False


def quote(value: str) -> str:
    """Put a value into Hydra's quotes, in which a backslash means something before a quote and at the end alone."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value) + "'"
