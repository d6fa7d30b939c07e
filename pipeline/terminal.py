"""What other people's words look like when we print them: characters that a reader cannot see, or that steer a terminal, are written out.

A title or a URL may hold ESC sequences that recolour or retitle a terminal, line breaks that fake a line of ours, and bidi overrides that
show `gnp.exe` as `exe.png`. Everything that a command prints goes through `say`, and everything on the report's page through `show`.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import TextIO

HIDDEN_KINDS = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats (bidi, zero width, tags), lone surrogates, line and paragraph separators
BLANK_LETTERS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # of other kinds, but nothing is seen of them
# Persian, Indic scripts and emoji are written with joiners between two of their own characters; elsewhere a joiner hides something
JOINED = re.compile("(?<=[\u0600-\u1fff\u2300-\U0010ffff])[\u200c\u200d](?=[\u0600-\u1fff\u2300-\U0010ffff])")


def show(text: str) -> str:
    """Return a text in which every hidden character is an escape as Python writes it, e.g. `\\x1b`, `\\n`, `\\u202e`; others stay."""
    if text.isascii() and text.isprintable():
        return text
    joiners = {match.start() for match in JOINED.finditer(text)}
    return "".join(_escape(c) if is_hidden(c) and place not in joiners else c for place, c in enumerate(text))


def is_hidden(character: str) -> bool:
    """Say whether a reader of a page or a terminal could not see a character, or a terminal would act on it."""
    return unicodedata.category(character) in HIDDEN_KINDS or character in BLANK_LETTERS


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print lines at once, to stdout by default; what the stream's encoding lacks is escaped as well, and a closed stream gets nothing."""
    stream = file or sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        for line in lines:
            print(show(str(line)).encode(encoding, "backslashreplace").decode(encoding), file=stream)
        stream.flush()
    except OSError as error:
        error.filename = error.filename or f"what {getattr(stream, 'name', 'a stream')} is written to"  # else a reader looks for a file of ours
        raise


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
