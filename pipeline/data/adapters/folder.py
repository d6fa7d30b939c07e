"""Your own catalogue: a folder of images, a table of items, a table of interactions, and perhaps a table of references.

    <raw>/images/                        PNG, JPEG, GIF, WebP, BMP; subfolders are allowed
    <raw>/items.csv|tsv|parquet          item_id; optional: image (file in images/; default: item_id and any known suffix), text
                                         (default: the file's name, if it says something, else the caption), category, image_url
                                         (where `make fetch-images` may get the image)
    <raw>/interactions.csv|tsv|parquet   user_id, item_id; optional: timestamp (numbers or dates, see times.py; default: the order of rows)
    <raw>/references.csv|tsv|parquet     optional: user_id, item_id; default: each user's last interaction

A repeated interaction counts once, at its last time. An item without a readable image is left out and listed as missing. A user with
fewer than `min_history` items besides the reference is left out and named, and so is one whose reference has no picture. A row without an
id, or without a time where others have one, is left out and counted too. Ids are texts: 007 and 7 are two ids. A row about a file that a
system puts beside pictures (.DS_Store, Thumbs.db) is no item.
"""

from __future__ import annotations

import difflib
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config import Count, config_dataclass
from pipeline.data.dataset import Dataset
from pipeline.data.known_ids import KnownIds, explain_rounded
from pipeline.data.losses import NO_IMAGE, REFERENCES, REPEATED, Losses, describe_cut
from pipeline.data.picture_folder import PictureFolder, PictureNameError
from pipeline.data.picture_names import is_companion_path
from pipeline.data.problems import DataError, Problems, quote
from pipeline.data.raw_files import find_folder, require_folder
from pipeline.data.source import RawItem, SplitConfig, UserSequence, build_tables, load_catalogue
from pipeline.data.tables import SUFFIXES, find_table, read_rows
from pipeline.data.times import TimeColumn
from pipeline.data.wording import read_file_name
from pipeline.params import load_params

ITEM_COLUMNS = ("image", "text", "category", "image_url")


@config_dataclass
class FolderConfig(SplitConfig):
    """Params of a catalogue of one's own; explained in conf/dataset/folder.yaml."""

    min_history: Count

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_history > self.history_length:
            raise ValueError(f"min_history is {self.min_history}, but it must be at most history_length, {self.history_length}.")


@dataclass(frozen=True, slots=True)
class Interaction:
    """One interaction of a user; `time` orders them, ties keep the order of rows."""

    time: float
    item_id: str


def build_from_params(params: Path, extra: Path, seed: int) -> Dataset:
    """Build the data set that the params' `dataset` block says; nothing in it is random."""
    return build_folder(load_params(params, "dataset", FolderConfig), extra=extra)


def build_folder(config: FolderConfig, *, extra: Path) -> Dataset:
    """Read the tables, load the images, and make one case of every user that has enough items."""
    raw = require_folder(Path(config.raw))
    problems = Problems()
    raw_items = read_items(raw, problems)
    known = KnownIds(item.item_id for item in raw_items)
    interactions = read_interactions(raw, known, problems)
    references = read_references(raw, known, problems)
    problems.check_left_out(config.max_rejected_fraction)
    problems.raise_if_any()
    catalogue = load_catalogue(raw_items, config)
    losses = Losses(sum(map(len, interactions.values())))
    sequences = build_sequences(interactions, references, set(catalogue.items), config, losses)
    facts = {
        "repeated_interactions": sum(len(rows) - len({row.item_id for row in rows}) for rows in interactions.values()),
        "rows_left_out": problems.num_left_out,
    }
    data = build_tables(catalogue, sequences, config, extra=extra, facts=facts, losses=losses)
    return replace(data, left_out=problems.left_out, notes=problems.notes)


def read_items(raw: Path, problems: Problems) -> list[RawItem]:
    """Read the items in file order; the second row of an id is a problem."""
    path, pictures = require_table(raw, "items"), PictureFolder(find_folder(raw, "images"))
    items: list[RawItem] = []
    first: dict[str, int] = {}
    for line, row in read_rows(path, ("item_id",), ITEM_COLUMNS, problems):
        item_id, name = row["item_id"], row.get("image", "")
        if not item_id:
            problems.leave_out(path, line, "`item_id` is empty, so the row names no item; it is left out.")
        elif rounded := explain_rounded("item_id", item_id):
            problems.add(path, line, rounded)
        elif item_id in first:
            problems.add(path, line, f"the item_id {quote(item_id)} is in line {first[item_id]:,} already; every item has one row.")
        elif not is_companion_path(name or item_id):
            first[item_id] = line
            try:
                image = pictures.locate(item_id, name)
            except PictureNameError as error:
                problems.add(path, line, str(error))
                continue
            text = row.get("text", "") or read_file_name(image.path.stem)
            items.append(RawItem(item_id, text, row.get("category", ""), image, row.get("image_url", "")))
    return items


def read_interactions(raw: Path, known: KnownIds, problems: Problems) -> dict[str, list[Interaction]]:
    """Read every user's interactions in the order of rows."""
    path = require_table(raw, "interactions")
    users: list[str] = []
    items: list[str] = []
    column = TimeColumn(path, problems)
    for line, row in read_rows(path, ("user_id", "item_id"), ("timestamp",), problems):
        if check_pair(path, line, row["user_id"], row["item_id"], known, problems):
            if "timestamp" in row:
                column.add(line, row["timestamp"])
            users.append(sys.intern(row["user_id"]))  # millions of rows name the same few
            items.append(sys.intern(row["item_id"]))
    by_user: dict[str, list[Interaction]] = {}
    times = column.decide().tolist() or range(len(users))
    for user_id, item_id, time in zip(users, items, times, strict=True):
        rows = by_user.setdefault(user_id, [])
        if not math.isnan(time):
            rows.append(Interaction(time, item_id))
    return by_user


def read_references(raw: Path, known: KnownIds, problems: Problems) -> dict[str, str]:
    """Read the reference of every user that has one of their own; empty without such a table."""
    path = find_table(raw, "references")
    references: dict[str, str] = {}
    for line, row in read_rows(path, ("user_id", "item_id"), (), problems) if path else ():
        user_id, item_id = row["user_id"], row["item_id"]
        if user_id in references:
            problems.add(path, line, f"the user_id {quote(user_id)} has a reference already; a user has one.")
        elif check_pair(path, line, user_id, item_id, known, problems):
            references[user_id] = item_id
    return references


def check_pair(path: Path, line: int, user_id: str, item_id: str, known: KnownIds, problems: Problems) -> bool:
    """Say whether a row names a user and a known item; if not, note the problem."""
    if not user_id or not item_id:
        problems.leave_out(path, line, f"`{'item_id' if user_id else 'user_id'}` is empty, so the row is no interaction; it is left out.")
    elif rounded := explain_rounded("user_id", user_id) or explain_rounded("item_id", item_id):
        problems.add(path, line, rounded)
    elif item_id not in known:
        problems.add(path, line, known.explain_absence(item_id))
    else:
        return True
    return False


def build_sequences(
    interactions: dict[str, list[Interaction]], references: dict[str, str], available: set[str], config: FolderConfig, losses: Losses
) -> list[UserSequence]:
    """Return one sequence of every user with enough available items, in the order of first interactions: the latest items, oldest first.

    What comes into none is added to the losses.
    """
    sequences = []
    for user_id, rows in interactions.items():
        ordered = [row.item_id for row in sorted(rows, key=lambda row: row.time)]
        items = [item_id for item_id in reversed(dict.fromkeys(reversed(ordered))) if item_id in available]
        reference = references.get(user_id) or (items[-1] if items else None)
        others = [item_id for item_id in items if item_id != reference]
        history = tuple(others[-config.history_length :])
        if reason := find_reason(reference, len(others), available, config):
            losses.leave_out(user_id, reason, num_read=len(rows))
            continue
        sequences.append(UserSequence(user_id, history, reference))
        distinct = set(ordered)
        losses.count(REPEATED, len(ordered) - len(distinct))
        losses.count(NO_IMAGE, len(distinct - available))
        losses.count(REFERENCES, len(items) - len(others))
        losses.count(describe_cut(config.history_length), len(others) - len(history))
    for user_id in [user_id for user_id in references if user_id not in interactions]:
        losses.leave_out(user_id, "there is a reference for this user, but no interaction")
    return sequences


def find_reason(reference: str | None, num_others: int, available: set[str], config: FolderConfig) -> str | None:
    """Return why a user cannot be a case, None if they can."""
    if reference is None:
        return "none of the user's items has a readable image"
    if reference not in available:
        return f"the reference {quote(reference)} has no readable image"
    if num_others < config.min_history:
        return f"{num_others} items with a readable image besides the reference, fewer than dataset.min_history, {config.min_history}"
    return None


def require_table(raw: Path, stem: str) -> Path:
    """Return the path of a table that must be there."""
    path = find_table(raw, stem)
    if path is None:
        near = difflib.get_close_matches(f"{stem}.csv", [path.name for path in raw.iterdir() if path.suffix.lower() in SUFFIXES], n=1, cutoff=0.7)
        guess = f" (did you mean {quote(near[0])}?)" if near else ""
        raise DataError(f"{raw} holds neither {stem}.csv nor {stem}.parquet{guess}; one of them must be there.")
    return path
