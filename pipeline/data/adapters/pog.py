"""POG (Alibaba iFashion): clicks on clothes; a sample of the users, each with their last 20 clicked items.

    <raw>/user_data.txt    user_id,item_id;item_id;...,outfit_id     one line per clicked outfit: the clicks before it
    <raw>/item_data.txt    item_id,cate_id,pic_url,title             the title is Chinese and may hold commas
    <raw>/images/<item_id>.jpg    which `make fetch-images` may download from pic_url

The paper "randomly selects a subset of users and interactions"; 1,000 users with 20 items give about its 19,242 items, of which then
nearly all occur once. Departures: 1. the last clicked item is the reference, the 19 before it are the history; 2. a repeated click
counts once, at its last time; 3. users are drawn by a hash of their id, so that a user who clicks a lot is not likelier drawn;
4. items whose image is gone are skipped, so some more users and items than needed are looked at (`spare_users`, `spare_items`).

Both files are streamed: memory depends on the size of the sample, not of the files.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import NonNegativeInt

from pipeline.config import config_dataclass
from pipeline.data.dataset import Dataset
from pipeline.data.losses import NO_IMAGE, REFERENCES, Losses, describe_cut
from pipeline.data.picture_folder import PictureFolder, PictureNameError
from pipeline.data.problems import Problems
from pipeline.data.raw_files import MAX_NAME_BYTES, MAX_TEXT_CHARS, decode_text, is_utf8, read_lines, require_folder
from pipeline.data.source import LoadedItems, RawItem, SplitConfig, UserSequence, build_tables, load_catalogue
from pipeline.params import load_params

MAX_TRACKED = 100_000  # users whose clicks are remembered while too few of them have enough; bounds the memory on odd files
HIGHEST = b"\xff" * 8


@config_dataclass
class PogConfig(SplitConfig):
    """Params of POG; explained in conf/dataset/pog.yaml."""

    num_users: Annotated[int, Ge(3), Le(MAX_TRACKED // 2)]
    spare_users: NonNegativeInt
    spare_items: NonNegativeInt


@dataclass
class Clicks:
    """What is remembered of one user: the rank of their hash and their latest distinct items, oldest first."""

    rank: bytes
    items: dict[bytes, None] = field(default_factory=dict)


@dataclass
class UserSample:
    """The `size` users of lowest hash among those with at least `min_items` distinct items; each keeps their last `max_items`.

    A user is forgotten only when their hash is above `limit`, which never rises: whoever is in the sample at the end was never forgotten.
    """

    size: int
    min_items: int
    max_items: int
    seed: int
    limit: bytes = HIGHEST
    users: dict[bytes, Clicks] = field(default_factory=dict)
    enough: list[tuple[int, bytes]] = field(default_factory=list)  # heap of (-hash, user) of those with enough items, at most `size`

    def __post_init__(self) -> None:
        self._key = f"pog:{self.seed}".encode()
        self._prune_at = max(1_000, 4 * self.size)

    def add(self, user: bytes, items: Sequence[bytes]) -> None:
        """Add one line's clicks, oldest first."""
        rank = hashlib.blake2b(user, digest_size=8, key=self._key).digest()
        if rank > self.limit:
            return
        clicks = self.users.setdefault(user, Clicks(rank))
        had_enough = len(clicks.items) >= self.min_items
        for item in take_latest(items, self.max_items):
            clicks.items.pop(item, None)
            clicks.items[item] = None
        for item in list(clicks.items)[: max(0, len(clicks.items) - self.max_items)]:
            del clicks.items[item]
        if not had_enough and len(clicks.items) >= self.min_items:
            heapq.heappush(self.enough, (-int.from_bytes(rank, "big"), user))
            if len(self.enough) > self.size:
                heapq.heappop(self.enough)
                self.limit = self.users[self.enough[0][1]].rank
        if len(self.users) > self._prune_at:
            self._prune()

    def list_users(self) -> list[tuple[str, list[str]]]:
        """Return the drawn users in hash order with their items, oldest first."""
        drawn = sorted((self.users[user].rank, user) for _, user in self.enough)
        return [(user.decode(), [item.decode() for item in self.users[user].items]) for _, user in drawn]

    def _prune(self) -> None:
        if len(self.users) > MAX_TRACKED:
            self.limit = min(self.limit, sorted(clicks.rank for clicks in self.users.values())[MAX_TRACKED // 2])
        self.users = {user: clicks for user, clicks in self.users.items() if clicks.rank <= self.limit}
        self.enough = [entry for entry in self.enough if entry[1] in self.users]
        heapq.heapify(self.enough)
        self._prune_at = max(self._prune_at, 2 * len(self.users))


def take_latest(items: Sequence[bytes], count: int) -> list[bytes]:
    """Return the last `count` distinct items, each at its last place, oldest first."""
    latest: dict[bytes, None] = {}
    for item in reversed(items):
        if len(latest) == count:
            break
        if item:
            latest.setdefault(item)
    return list(reversed(latest))


def build_from_params(params: Path, extra: Path, seed: int) -> Dataset:
    """Build the data set that the params' `dataset` block says."""
    return build_pog(load_params(params, "dataset", PogConfig), extra=extra, seed=seed)


def build_pog(config: PogConfig, *, extra: Path, seed: int) -> Dataset:
    """Sample the users, look up their items, load the images, and keep the first `num_users` users with enough of them."""
    raw = require_folder(Path(config.raw))
    problems = Problems()
    length = config.history_length + 1
    sample = UserSample(config.num_users + config.spare_users, length, length + config.spare_items, seed)
    num_lines = sample_users(raw / "user_data.txt", sample, problems)
    problems.raise_if_any()
    users = sample.list_users()
    wanted = {item for _, items in users for item in items}
    raw_items = read_items(raw, wanted, problems)
    problems.raise_if_any()
    catalogue = load_catalogue(raw_items, config)
    losses = Losses(sum(len(items) for _, items in users))
    sequences = choose_sequences(users, catalogue, config, losses)
    used = {item_id for sequence in sequences for item_id in (*sequence.history, sequence.reference_id)}
    facts = {
        "lines": num_lines,
        "users_looked_at": len(users),
        "items_looked_at": len(wanted),
        "items_not_in_item_data": len(wanted) - len(raw_items),
    }
    kept = LoadedItems(catalogue.items.select(used), catalogue.missing, [item_id for item_id in catalogue.wordless if item_id in used])
    return build_tables(kept, sequences, config, extra=extra, facts=facts, losses=losses)


def sample_users(path: Path, sample: UserSample, problems: Problems) -> int:
    """Stream the clicks into the sample; return the number of lines."""
    number = 0
    for number, line in read_lines(path, problems):
        fields = line.split(b",")
        if len(fields) != 3 or not fields[0]:
            problems.add(
                path, number, f"the line has {len(fields)} comma-separated fields, but it must have 3: user_id,item_id;item_id;...,outfit_id."
            )
            continue
        items = fields[1].split(b";")
        if max(len(fields[0]), *map(len, items)) > MAX_NAME_BYTES:
            problems.add(path, number, f"an id is longer than the allowed {MAX_NAME_BYTES} bytes.")
        elif line.isascii() or is_utf8(line, path, number, problems):
            sample.add(fields[0], items)
    return number


def read_items(raw: Path, wanted: set[str], problems: Problems) -> list[RawItem]:
    """Stream the items and return the wanted ones in file order; the first line of an id counts."""
    path, images = raw / "item_data.txt", PictureFolder(raw / "images")
    items: dict[str, RawItem] = {}
    for number, line in read_lines(path, problems):
        fields = decode_text(line, path, number, problems).split(",", 3)
        if len(fields) != 4:
            problems.add(path, number, f"the line has {len(fields)} comma-separated fields, but it must have 4: item_id,cate_id,pic_url,title.")
        elif fields[0] in wanted and fields[0] not in items:
            item_id, category, url, title = fields
            if len(title) > MAX_TEXT_CHARS:
                problems.add(path, number, f"the title has {len(title):,} characters, more than the allowed {MAX_TEXT_CHARS:,}.")
            try:
                image = images.locate(item_id)
            except PictureNameError as error:
                problems.add(path, number, str(error))
                continue
            items[item_id] = RawItem(item_id, title.strip(), category.strip(), image, complete_url(url.strip()))
    return list(items.values())


def complete_url(url: str) -> str:
    """Return the URL with a scheme; POG writes `//host/path`."""
    return f"http:{url}" if url.startswith("//") else url


def choose_sequences(users: Iterable[tuple[str, list[str]]], catalogue: LoadedItems, config: PogConfig, losses: Losses) -> list[UserSequence]:
    """Return the first `num_users` users whose latest items have images, in hash order; the others are added to the losses."""
    sequences: list[UserSequence] = []
    for user_id, items in users:
        available = [item_id for item_id in items if item_id in catalogue.items]
        if len(sequences) == config.num_users:
            losses.count("are of spare users who were not needed", len(items))
            continue
        if len(available) <= config.history_length:
            reason = f"{len(available)} items with a readable image, but history and reference need {config.history_length + 1}"
            losses.leave_out(user_id, reason, num_read=len(items))
            continue
        *history, reference = available[-config.history_length - 1 :]
        sequences.append(UserSequence(user_id, tuple(history), reference))
        losses.count(NO_IMAGE, len(items) - len(available))
        losses.count(REFERENCES, 1)
        losses.count(describe_cut(config.history_length), len(available) - len(history) - 1)
    return sequences
