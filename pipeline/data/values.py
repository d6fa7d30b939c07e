"""What people write into the cells and headers of tables: words that mean "missing", letters in two forms, column names in other spellings."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from pipeline.data.problems import DataError, join_names, quote

# what spreadsheets, databases and pandas write for a value that is not there, in lower case
SPELLINGS = """
na n/a n.a. #n/a #na <na> nan -nan nat nil none null (null) <null> undefined (blank) \\n - -- --- – — ? . 1.#qnan -1.#ind
#value! #ref! #name? #div/0! #null! #num! 0000-00-00 -9223372036854775808
"""
MISSING_WORDS = frozenset([*SPELLINGS.split(), "0000-00-00 00:00:00"])
LONGEST_WORD = max(map(len, MISSING_WORDS))
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"  # byte order mark, zero-width space, (non-)joiners: they stick to names that were copied


def normalise_name(text: str) -> str:
    """Return the text with composed letters (NFC) and without space around it: é is one character, whichever system wrote it."""
    text = text.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def clean_value(text: str) -> str:
    """Return a cell's text, normalised; empty where it is a word that means "missing"."""
    text = text.strip()
    if len(text) <= LONGEST_WORD and text.casefold() in MISSING_WORDS:
        return ""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def find_columns(header: Sequence[str], required: Sequence[str], optional: Sequence[str], path: Path, *, separator: str = "") -> dict[str, int]:
    """Return the place of every wanted column that is there; DataError if a needed one is missing, or a wanted one is there twice.

    `User ID`, `userId` and `USER-ID` are the column `user_id`, unless one has exactly this name. Other columns do not matter.
    """
    names = [normalise_name(name.strip(INVISIBLE + " \t")) for name in header]
    places = {}
    for wanted in (*required, *optional):
        found = [place for place, name in enumerate(names) if name == wanted]
        found = found or [place for place, name in enumerate(names) if simplify(name) == simplify(wanted)]
        if len(found) > 1:
            how = "is there twice" if names[found[0]] == names[found[1]] else f"may be {quote(names[found[0]])} or {quote(names[found[1]])}"
            raise DataError(f"{path}, line 1: the column {quote(wanted)} {how}; keep one of them.")
        if found:
            places[wanted] = found[0]
        elif wanted in required:
            raise DataError(explain_missing_column(path, wanted, names, required, separator))
    return places


def explain_missing_column(path: Path, wanted: str, names: Sequence[str], required: Sequence[str], separator: str) -> str:
    """Return the sentence about a column that is not there: what is needed, what is there, and which name is close."""
    found = f"the header is {quote(', '.join(names))}" if any(names) else "the header is empty"
    close = difflib.get_close_matches(simplify(wanted), [simplify(name) for name in names], n=1)
    guess = next((f"; did you mean {quote(name)}?" for name in names if close and simplify(name) == close[0]), ".")
    split = f", separated by {separator}s" if separator else ""
    return f"{path}, line 1: the column `{wanted}` is missing; needed are {join_names(required)}{split}, but {found}{guess}"


def simplify(name: str) -> str:
    """Return a column's name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())
