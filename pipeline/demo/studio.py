"""What the demo answers: one wish becomes requests of `make draw`, one a method, and their outcome what the page shows. Knows nothing of Gradio.

There is no second inference path: a wish is checked, resolved, drawn and judged by the functions that `make draw` calls on a table's rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from pipeline.columns import map_columns
from pipeline.data.image_policy import MAX_BYTES
from pipeline.draw.delivery import deliver
from pipeline.draw.finished_run import FINISH, FinishedRun
from pipeline.draw.new_items import ItemModels, NewItems
from pipeline.draw.requests import RequestTable, build_request
from pipeline.draw.run import resolve_requests
from pipeline.draw.wishes import Wish
from pipeline.work import work_dir

METHODS = ("sd", "ragar")  # the last one is drawn with k
UPLOAD = "upload"
MAX_LISTED = 1_000  # users and items to choose from; others are typed
MAX_K = 30  # of the slider
MAX_TEXT = 1_000  # characters of what an uploaded picture shows
KEPT_ANSWERS = 32


@dataclass(frozen=True)
class Ask:
    """What a person has chosen; with an `upload` the reference is that file, which shows `text`."""

    user_id: str
    reference_id: str
    k: int
    upload: Path | None = None
    text: str = ""


@dataclass(frozen=True)
class Tile:
    """An item of the history with its weight; None where it was not retrieved."""

    item_id: str
    text: str
    image: bytes
    weight: float | None


@dataclass(frozen=True)
class Drawn:
    """What became of a method: the manifest's row, and the picture; empty where there is none, for the row's reason."""

    method: str
    row: dict[str, Any]
    image: bytes


@dataclass(frozen=True)
class Answer:
    """All that the page shows of one wish."""

    user_id: str
    reference: Tile
    history: list[Tile] = field(default_factory=list)  # oldest first
    drawn: list[Drawn] = field(default_factory=list)
    k: int = 0

    @property
    def main(self) -> Drawn:
        """The outcome of the method that is drawn with k."""
        return self.drawn[-1]


class Studio:
    """A finished run that answers one wish at a time; what it has loaded and answered is kept."""

    def __init__(self, run: FinishedRun, methods: Sequence[str] = METHODS) -> None:
        self.run, self.methods = run, tuple(methods)
        self._models, self._lock = ItemModels(run.params), Lock()
        self._answer_known = lru_cache(KEPT_ANSWERS)(self._answer)

    def check(self) -> None:
        """Raise ValueError if there is no finished run here."""
        self.run.check()
        for method in self.methods:
            if not (path := self.run.locate_generated(method)).is_file():
                raise ValueError(f"{path} does not exist; {FINISH}.")

    @cached_property
    def _cases(self) -> dict[str, dict[str, Any]]:
        """The first case of every user; those that the run has drawn come first."""
        splits = self.run.generation.splits
        cases: dict[str, dict[str, Any]] = {}
        for row in sorted(self.run.cases.to_pylist(), key=lambda row: (row["split"] not in splits, row["user_id"], row["case_id"])):
            cases.setdefault(row["user_id"], row)
        return cases

    @cached_property
    def _texts(self) -> dict[str, str]:
        return map_columns(self.run.items, "item_id", "text")

    def list_users(self) -> list[str]:
        """List users to choose from, those that the run has drawn first."""
        return list(self._cases)[:MAX_LISTED]

    def list_references(self) -> list[tuple[str, str]]:
        """List (label, item_id) to choose from: the users' own references first, then the others."""
        own = [self._cases[user_id]["reference_id"] for user_id in self.list_users()]
        listed = list(dict.fromkeys([*own, *self._texts]))[:MAX_LISTED]
        return [(f"{self._texts.get(item_id) or 'no text'} ({item_id})", item_id) for item_id in listed]

    def find_reference(self, user_id: str) -> str:
        """Return the reference of a user's own case; empty for a user without one."""
        return self._cases[user_id]["reference_id"] if user_id in self._cases else ""

    @property
    def max_k(self) -> int:
        """The largest k that may change something: the longest history, within bounds."""
        longest = max((len(set(row["history"])) for row in self._cases.values()), default=1)
        return max(min(longest, MAX_K), self.run.retrieval.k, 2)

    def answer(self, ask: Ask) -> Answer:
        """Draw what was asked for; ValueError says in a sentence why that cannot be done."""
        with self._lock:  # the page's threads share the run's ledgers and models
            return self._answer(ask) if ask.upload is not None else self._answer_known(ask)

    def _answer(self, ask: Ask) -> Answer:
        work_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=work_dir(), prefix=".demo-") as name:
            folder = Path(name)
            table = self._build_table(ask, folder)
            wishes, new_items, rejected = resolve_requests(table, self.run, self._models)
            if not wishes:
                raise ValueError(rejected[0].reason)
            outcome = deliver(wishes, new_items, rejected, folder, self.run, self._models)
            row_of = {row["request"]: row for row in outcome.rows}
            drawn = []
            for number, method in enumerate(self.methods, start=1):
                row = row_of[number]
                drawn.append(Drawn(method, row, (folder / row["file"]).read_bytes() if row["file"] else b""))
        return self._show(wishes[-1], new_items, drawn, ask)

    def _build_table(self, ask: Ask, folder: Path) -> RequestTable:
        """Return a request a method: all but the last one as the run draws them, the last one with k."""
        values = {"user_id": ask.user_id, "reference_id": ask.reference_id}
        if ask.upload is not None:
            values |= {"reference_id": "", "image": keep_upload(ask.upload, folder), "text": ask.text.strip()[:MAX_TEXT]}
        defaults, k = self.run.build_defaults(), {self.methods[-1]: str(ask.k)}
        requests = [
            build_request(number, {**values, "method": method, "k": k.get(method, "")}, folder, defaults)
            for number, method in enumerate(self.methods, start=1)
        ]
        return RequestTable(requests)

    def _show(self, wish: Wish, new_items: NewItems, drawn: list[Drawn], ask: Ask) -> Answer:
        weight_of, case = dict(wish.retrieved), wish.case
        wanted = list(dict.fromkeys([*case.history, case.reference_id]))
        images = self.run.images.read([item_id for item_id in wanted if item_id in self.run.images]) | new_items.images
        texts = self._texts | map_columns(new_items.items, "item_id", "text")

        def lay(item_id: str, weight: float | None) -> Tile:
            return Tile(item_id, texts.get(item_id, ""), images.get(item_id, b""), weight)

        history = [lay(item_id, weight_of.get(item_id)) for item_id in dict.fromkeys(case.history)]
        return Answer(ask.user_id, lay(case.reference_id, None), history, drawn, ask.k)


def keep_upload(path: Path, folder: Path) -> str:
    """Copy an uploaded file, no more of it than any picture may have, beside the request, and return its name there."""
    with path.open("rb") as file:
        (folder / UPLOAD).write_bytes(file.read(MAX_BYTES + 1))  # one byte too many is refused by the repository's image opener
    return UPLOAD
