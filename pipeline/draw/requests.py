"""The table of requests: who, what, how; every row becomes a request or the reason why it is none, and the others go on.

Columns, all of them optional, as long as a row says who (`user_id` or `history`) and what (`reference_id`, or `image`):

| column | |
|---|---|
| `request_id` | a name of your own, in the manifest and in the names of files |
| `user_id` | a user of the run, or, beside a `history`, anybody |
| `history` | item ids, oldest first, separated by `|` (or `;`); in Parquet a list of texts may stand there |
| `reference_id` | an item of the catalogue |
| `image`, `text`, `category` | a picture that the catalogue lacks: a file, relative to the table of requests, and what it shows |
| `seed` | which noise to begin with; the run's own seed, the default, gives the run's picture |
| `candidates` | how many pictures to choose from |
| `method` | ragar, sd, keywords, ... |
| `k` | how many items of the history are retrieved; the run's own, the default, gives the run's picture |
| `start`, `strength` | what to begin with: `noise`, or `reference` and how much of its picture is drawn anew; the run's own is the default |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from pipeline.data.problems import MAX_QUOTED, DataError, Problems, quote
from pipeline.data.raw_files import resolve_inside
from pipeline.data.tables import read_rows

COLUMNS = (
    "request_id", "user_id", "history", "reference_id", "image", "text", "category", "seed", "candidates", "method", "k", "start",
    "strength",
)  # fmt: skip
MAX_CANDIDATES = 16
MAX_HISTORY = 1_000
MAX_SEED = 2**63 - 1
WHOLE_NUMBER = re.compile(r"\d{1,19}")
NUMBER = re.compile(r"(?:\d+[.,]?|\d*[.,]\d+)(?:[eE][+-]?\d+)?")
StartName = Literal["noise", "reference"]
STARTS: tuple[str, ...] = get_args(StartName)
COPYING = ("original", "truth")  # methods that draw nothing


class BadRequest(ValueError):
    """Why a request cannot be fulfilled, as one sentence for a person."""


@dataclass(frozen=True)
class Start:
    """What a picture begins with: noise, or the reference's picture, of which `strength` (above 0, at most 1) is drawn anew."""

    name: StartName = "noise"
    strength: float | None = None  # None: from noise


@dataclass(frozen=True)
class Defaults:
    """What counts where a request does not say it; `strength` is that of a start from the reference's picture."""

    method: str
    seed: int
    num_candidates: int = 1
    methods: Sequence[str] = ()  # those that there are
    k: int = 0
    start: StartName = "noise"
    strength: float = 1.0

    @property
    def own_start(self) -> Start:
        """What a picture begins with where the request says nothing of it."""
        return Start("reference", self.strength) if self.start == "reference" else Start()


@dataclass(frozen=True)
class Request:
    """One row of the table, checked as far as that can be done without looking at the catalogue."""

    number: int  # of its line or row in the table
    request_id: str
    user_id: str
    history: tuple[str, ...]  # empty: that of the user
    reference_id: str  # empty: the picture of `image`
    image: Path | None
    text: str
    category: str
    seed: int
    num_candidates: int
    method: str
    k: int
    start: Start


@dataclass(frozen=True)
class Rejected:
    """A row that is no request, or one that cannot be fulfilled, and why."""

    number: int
    request_id: str
    reason: str


@dataclass
class RequestTable:
    """All rows of a table in its order."""

    requests: list[Request] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


class RowProblems(Problems):
    """Problems of a table of which each row stands for itself: a sentence a row; what is wrong with the file as a whole is a DataError."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: dict[int, str] = {}

    def add(self, path: Path, line: int | None, sentence: str, *, unit: str = "", times: int = 1) -> None:
        """Keep the first sentence of every row."""
        if line is None:
            raise DataError(f"{path}: {sentence}")
        self.reasons.setdefault(line, f"{sentence[:1].upper()}{sentence[1:]}")


def read_requests(path: Path, defaults: Defaults) -> RequestTable:
    """Read a CSV or Parquet file of requests; DataError if the file as a whole is none."""
    problems, table = RowProblems(), RequestTable()
    ids: dict[str, int] = {}
    for number, values in read_rows(path, (), COLUMNS, problems):
        if not values:
            raise DataError(f"{path}: none of the columns is known; these are: {', '.join(COLUMNS)}.")
        if number in problems.reasons:
            continue
        request_id = values.get("request_id", "")
        try:
            request = build_request(number, values, path.parent, defaults)
            if request_id and (first := ids.setdefault(request_id, number)) != number:
                raise BadRequest(f"The request_id {quote(request_id)} is that of row {first:,} already.")
            table.requests.append(request)
        except BadRequest as error:
            table.rejected.append(Rejected(number, request_id, str(error)))
    table.rejected += [Rejected(number, "", reason) for number, reason in problems.reasons.items()]
    table.rejected.sort(key=lambda row: row.number)
    if not table.requests and not table.rejected:
        raise DataError(f"{path}: the table holds no request.")
    return table


def build_request(number: int, values: dict[str, str], folder: Path, defaults: Defaults) -> Request:
    """Build the request of one row; BadRequest says what is wrong with it. `folder` is that of the table."""
    value_of = {name: values.get(name, "") for name in COLUMNS}
    method = value_of["method"] or defaults.method
    if method not in defaults.methods:
        raise BadRequest(f"The method {quote(method)} is not known; these are: {', '.join(defaults.methods)}.")
    if not value_of["user_id"] and not value_of["history"]:
        raise BadRequest("It says neither whose picture it is (user_id) nor what somebody has looked at (history).")
    if bool(value_of["reference_id"]) == bool(value_of["image"]):
        which = "both a reference_id and an image; keep one of them" if value_of["image"] else "neither a reference_id nor an image"
        raise BadRequest(f"It has {which}.")
    return Request(
        number=number,
        request_id=value_of["request_id"],
        user_id=value_of["user_id"],
        history=tuple(read_history(value_of["history"])),
        reference_id=value_of["reference_id"],
        image=locate_image(folder, value_of["image"]) if value_of["image"] else None,
        text=value_of["text"],
        category=value_of["category"],
        seed=read_number("seed", value_of["seed"], defaults.seed, most=MAX_SEED),
        num_candidates=read_number("candidates", value_of["candidates"], defaults.num_candidates, least=1, most=MAX_CANDIDATES),
        method=method,
        k=read_number("k", value_of["k"], defaults.k, least=1, most=MAX_HISTORY),
        start=read_start(value_of["start"].lower(), value_of["strength"], method, defaults),
    )


def read_start(name: str, strength: str, method: str, defaults: Defaults) -> Start:
    """Read what a picture begins with; there is nothing to choose where a method draws nothing."""
    if name not in ("", *STARTS):
        raise BadRequest(f"`start` is {quote(name)}, but it must be one of: {', '.join(STARTS)}; or empty.")
    if method in COPYING:
        if name == "reference" or strength:
            raise BadRequest(f"It says what to begin with (start, strength), but the method {method} copies a picture; leave both empty.")
        return defaults.own_start
    if (name or defaults.start) == "noise":
        if strength:
            raise BadRequest(f"`strength` is {quote(strength)}, but it is for a start from the reference's picture; write reference in `start`.")
        return Start()
    return Start("reference", read_strength(strength) if strength else defaults.strength)


def read_strength(text: str) -> float:
    """Read a number above 0 and at most 1, with a point or a comma."""
    value = float(text.replace(",", ".")) if text.isascii() and NUMBER.fullmatch(text) else 0.0
    if not 0 < value <= 1:
        raise BadRequest(f"`strength` is {quote(text)}, but it must be a number above 0 and at most 1 (1: all is drawn anew).")
    return value


def read_number(name: str, text: str, default: int, *, least: int = 0, most: int) -> int:
    """Read a whole number; the default where there is none."""
    if not text:
        return default
    if not WHOLE_NUMBER.fullmatch(text) or not text.isascii() or not least <= int(text) <= most:
        raise BadRequest(f"`{name}` is {quote(text)}, but it must be a whole number from {least} to {most}.")
    return int(text)


def read_history(text: str) -> Iterator[str]:
    """Yield the item ids of a history; a list of Parquet has been joined with commas, which no other separator may then be."""
    separator = next((sign for sign in ("|", ";") if sign in text), ",")
    ids = [item_id for part in text.split(separator) if (item_id := part.strip())]
    if len(ids) > MAX_HISTORY:
        raise BadRequest(f"The history names {len(ids):,} items, more than the allowed {MAX_HISTORY:,}; keep the latest.")
    yield from ids


def locate_image(folder: Path, name: str) -> Path:
    """Return the file of a picture; BadRequest if it is not inside of the table's folder, links followed, or not there."""
    path = resolve_inside(folder, name)
    if path is None:
        raise BadRequest(f"The image {quote(name)} is no file name inside of the folder of the table of requests.")
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BadRequest(f"The image {quote(name)} is a link that leads outside of the folder of the table of requests.")
        is_there = path.is_file()
    except OSError as error:
        raise BadRequest(f"The image {quote(name[:MAX_QUOTED])} cannot be looked for ({error.strerror}).") from error
    if not is_there:
        raise BadRequest(f"The image {quote(name)} is not there; its path is relative to the folder of the table of requests.")
    return path
