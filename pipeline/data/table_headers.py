"""Headers of tables: where the wanted columns are, in any spelling, and which one may be meant where one is not there.

Pandas, shops and loggers have names of their own for the same thing. Nobody guesses: a sentence says what may be meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.data.problems import DataError, join_names, quote
from pipeline.data.values import normalise_name, simplify

OTHER_NAMES = {
    "item_id": "id item itemid sku asin productid product movieid articleid itemno",
    "user_id": "user uid userid customerid customer reviewerid visitorid accountid username",
    "image": "img imagename imagepath imagefile file filename filepath path picture photo",
    "image_url": "url imgurl imagelink pictureurl photourl imageurlhighres",
    "text": "title name itemname productname description caption label",
    "category": "categories categoryname class genre genres type label",
    "timestamp": "time date datetime ts createdat eventtime unixtime unixreviewtime reviewtime",
}


def find_columns(header: Sequence[str], required: Sequence[str], optional: Sequence[str], path: Path, *, separator: str = "") -> dict[str, int]:
    """Return the place of every wanted column that is there; DataError if a needed one is missing, or a wanted one is there twice.

    `User ID`, `userId` and `USER-ID` are the column `user_id`, unless one has exactly this name. Other columns do not matter.
    """
    names = [normalise_name(name) for name in header]
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
    likely = next((name for name in names if close and simplify(name) == close[0]), None) or find_likely_column(names, wanted)
    guess = f"; did you mean {quote(likely)}?" if likely else "."
    split = f", separated by {separator}s" if separator else ""
    return f"{path}, line 1: the column `{wanted}` is missing; needed are {join_names(required)}{split}, but {found}{guess}"


def list_likely_columns(header: Sequence[str], found: Mapping[str, int], optional: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for every optional column that is not there although an unread one with another usual name for it is."""
    unread = [name for place, name in enumerate(header) if place not in found.values()]
    for wanted in optional:
        if wanted not in found and (likely := find_likely_column(unread, wanted)):
            yield f"the column {quote(likely)} is not read; if it is the `{wanted}`, call it so."


def find_likely_column(names: Sequence[str], wanted: str) -> str | None:
    """Return the first column with another usual name for `wanted`."""
    usual = OTHER_NAMES.get(wanted, "").split()
    return next((name for name in map(normalise_name, names) if simplify(name) in usual), None)
