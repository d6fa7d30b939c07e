"""Which ids of items there are, and which one may be meant by an id that is none: tables that went through other programs write 7 or 7.0 for 007."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.data.problems import quote
from pipeline.data.values import is_rounded


class KnownIds:
    """A set of ids that answers for those that are not in it."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = frozenset(ids)
        self._near: dict[str, str] | None = None

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._ids

    def explain_absence(self, item_id: str) -> str:
        """Say that an id is not there, and which one may be meant where there is exactly one."""
        if self._near is None:
            self._near = {}
            for known in self._ids:
                key = loosen(known)
                self._near[key] = "" if key in self._near else known
        near = self._near.get(loosen(item_id))
        return f"the item_id {quote(item_id)} is not in the table of items{f'; did you mean {quote(near)}?' if near else '.'}"


def loosen(item_id: str) -> str:
    """Return what is left of an id by a spreadsheet: its letters and digits in one case, without leading zeros and the decimals of a whole number."""
    return re.sub(r"[\W_]+", "", re.sub(r"(?<=\d)\.0+$", "", item_id.casefold())).lstrip("0")


def explain_rounded(name: str, value: str) -> str | None:
    """Say that an id is rounded and so may be several, or return None."""
    if not is_rounded(value):
        return None
    return f"the {name} {quote(value)} is rounded, as spreadsheets do with long numbers; make the column a text there, and export it again."
