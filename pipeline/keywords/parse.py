"""A language model's reply -> keywords, strictly: what does not look like a keyword is dropped, never repaired (eq. 6)."""

from __future__ import annotations

import re

MAX_WORDS = 3
MAX_CHARS = 40
NUMBERING = re.compile(r"^(?:[-*•]+|\(?\d{1,2}[.):]\s)\s*")
LABEL = re.compile(r"^(?:visual\s+)?keywords?\s*(?:\(.*?\))?\s*:\s*", re.IGNORECASE)
EDGES = " \t\"'`“”‘’.;:!?*()[]{}"
SHAPE = re.compile(r"^[^\W_](?:[\w'’+&/.-]*[\w+])?(?: [^\W_](?:[\w'’+&/.-]*[\w+])?)*$")
BOILERPLATE = frozenset({"keyword", "keywords", "visual keywords", "picture", "image", "text", "none", "n/a", "unknown", "sure", "etc", "and more"})


def parse_keywords(reply: str, *, max_keywords: int) -> list[str]:
    """Return at most `max_keywords` lower-case keywords of 1 to 3 words, each once, in the reply's order; perhaps none."""
    line = next((line for line in reply.splitlines() if line.strip()), "")
    if "," not in line:  # a model that answers with one keyword per line
        line = ",".join(line for line in reply.splitlines() if line.strip())
    parts = re.split(r"[,;]", LABEL.sub("", line.strip()))
    keywords = dict.fromkeys(filter(None, (clean_keyword(part) for part in parts)))
    return list(keywords)[:max_keywords]


def clean_keyword(part: str) -> str | None:
    """Return one part of a list in its plain form, or None if it is no keyword (too long, markup, boilerplate)."""
    keyword = " ".join(NUMBERING.sub("", part.strip()).strip(EDGES).lower().split())
    if not keyword or keyword in BOILERPLATE or len(keyword) > MAX_CHARS or len(keyword.split()) > MAX_WORDS:
        return None
    return keyword if SHAPE.match(keyword) and any(char.isalpha() for char in keyword) else None
