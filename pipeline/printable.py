"""Texts from outside on their way to a terminal: what would move the cursor, hide or turn the text around is shown as an escape instead."""

from __future__ import annotations

import unicodedata

CHANGES_NO_RESULT = True

KEPT = "\n\t"


def make_printable(text: str) -> str:
    """Return the text with control characters (ESC, NUL, C1), bidi overrides, zero-width characters and lone surrogates as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in KEPT or unicodedata.category(char) == "Zs" else escape(char) for char in text)


def escape(char: str) -> str:
    r"""Return one character as Python writes it: `\x1b`, `\u202e`."""
    return char.encode("unicode_escape").decode("ascii")
