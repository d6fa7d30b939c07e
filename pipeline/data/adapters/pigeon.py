"""Pigeon's processed sets (stickers and ml-latest-small): windows of five items and a target, as its authors distribute them.

    <raw>/processed_seq/train.npy, valid.npy, test.npy    {user: {genre: [[5 items + target], ...]}}
    <raw>/processed_seq/all_image_paths.npy               place = item, path below Images/ or poster/
    <raw>/processed_seq/mapped_movies.npy                 {item: {title, genres, intro}}, or
    <raw>/processed_seq/mapped_anno_dict.npy              {item: {emo, text}}
    <raw>/Images/ or <raw>/poster/

The `.npy` files hold pickled objects, which are read by pipeline.data.npy without running them. These are Pigeon's users and sequences,
not the paper's. Choices: 1. of every user and split one window is a case, drawn by the seed, its target the reference; 2. a user's
interactions are the items of all their cases' histories, without the references of the validation and test cases; 3. a window
that holds an item without a readable image, or its own target in the history, is no case.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import config_dataclass
from pipeline.data.dataset import SPLITS, Dataset, TooFewImagesError
from pipeline.data.losses import REFERENCES, REPEATED, Losses
from pipeline.data.npy import read_npy
from pipeline.data.picture_folder import PictureFolder, PictureNameError
from pipeline.data.problems import DataError, Problems, quote
from pipeline.data.raw_files import MAX_TEXT_CHARS, require_folder
from pipeline.data.source import RawItem, SourceConfig, UserSequence, build_case, finish_dataset, load_catalogue
from pipeline.data.wording import read_file_name
from pipeline.params import load_params

FILES = dict(zip(SPLITS, ("train.npy", "valid.npy", "test.npy"), strict=True))
IMAGE_FOLDERS = ("Images", "poster")
INFO_FILES = ("mapped_movies.npy", "mapped_anno_dict.npy")

Windows = dict[str, list[tuple[str, ...]]]  # user -> windows, the target last


@config_dataclass
class PigeonConfig(SourceConfig):
    """Params of Pigeon's sets; explained in conf/dataset/pigeon.yaml."""


def build_from_params(params: Path, extra: Path, seed: int) -> Dataset:
    """Build the data set that the params' `dataset` block says."""
    return build_pigeon(load_params(params, "dataset", PigeonConfig), extra=extra, seed=seed)


def build_pigeon(config: PigeonConfig, *, extra: Path, seed: int) -> Dataset:
    """Read the files, load the images, and draw one case of every user and split."""
    raw = require_folder(Path(config.raw))
    folder = require_folder(raw / "processed_seq")
    problems = Problems()
    raw_items = read_items(raw, folder, problems)
    known = {item.item_id for item in raw_items}
    windows = {split: read_windows(folder / name, known, config.history_length + 1, problems) for split, name in FILES.items()}
    problems.raise_if_any()
    catalogue = load_catalogue(raw_items, config)
    losses = Losses(sum(len(ids) for by_user in windows.values() for choices in by_user.values() for ids in choices))
    cases = [case for split, by_user in windows.items() for case in draw_cases(by_user, split, set(catalogue.items), losses, seed=seed)]
    for split in SPLITS:
        if not any(case["split"] == split for case in cases):
            missing = catalogue.missing
            raise TooFewImagesError(f"{folder / FILES[split]}: no window has a readable image of every item; {len(missing):,} are missing.", missing)
    facts = {"windows": {split: sum(map(len, by_user.values())) for split, by_user in windows.items()}}
    return finish_dataset(catalogue, cases, config, extra=extra, facts=facts, losses=losses)


def read_items(raw: Path, folder: Path, problems: Problems) -> list[RawItem]:
    """Read the items that both the list of image paths and the table of texts have, in the order of their numbers."""
    images = next((raw / name for name in IMAGE_FOLDERS if (raw / name).is_dir()), None)
    if images is None:
        raise DataError(f"{raw} holds none of the folders {', '.join(IMAGE_FOLDERS)}; the images belong into one of them.")
    pictures, path = PictureFolder(images), folder / "all_image_paths.npy"
    paths = read_npy(path)
    if not isinstance(paths, np.ndarray | list | tuple):
        raise DataError(f"{path}: the file holds a {type(paths).__name__}, but it must hold a list of paths.")
    info_path, info = read_info(folder)
    items = []
    for number, name in enumerate(paths):
        if str(number) not in info:  # a place that no item has
            continue
        entry = info[str(number)]
        try:
            image = pictures.locate(str(number), str(name))
        except PictureNameError as error:
            problems.add(path, number, str(error), unit="item")
            continue
        if not isinstance(entry, dict) or any(len(str(value)) > MAX_TEXT_CHARS for value in entry.values()):
            problems.add(info_path, number, f"the entry is no table of texts of at most {MAX_TEXT_CHARS:,} characters each.", unit="item")
        else:
            text, category = describe_item(entry)
            items.append(RawItem(str(number), text or read_file_name(image.path.stem), category, image))
    return items


def read_info(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Read the table of movies, or else that of stickers, by item number."""
    path = next((folder / name for name in INFO_FILES if (folder / name).exists()), None)
    if path is None:
        raise DataError(f"{folder} holds neither {INFO_FILES[0]} nor {INFO_FILES[1]}; one of them must be there.")
    return path, {str(key): value for key, value in require_dict(read_npy(path), path).items()}


def describe_item(entry: dict[str, Any]) -> tuple[str, str]:
    """Return text and category: title and genres of a movie, words and emotion of a sticker; numbers tell nothing and are left out."""
    if "title" in entry:
        genres = entry.get("genres", "")
        return str(entry["title"]).strip(), ", ".join(map(str, genres)) if isinstance(genres, list | tuple) else str(genres).replace("|", ", ")
    emotion = entry.get("emo", "")
    emotion = emotion if isinstance(emotion, str) and not emotion.isdecimal() else ""
    return " ".join(filter(None, (emotion, str(entry.get("text", "")).strip()))), emotion


def read_windows(path: Path, known: set[str], length: int, problems: Problems) -> Windows:
    """Read one split's windows by user; a window of another length or with an unknown item is a problem."""
    windows: Windows = {}
    for number, (user, genre, window) in enumerate(list_windows(require_dict(read_npy(path), path), path), start=1):
        ids = tuple(map(str, window)) if isinstance(window, list | tuple | np.ndarray) else ()
        unknown = [item_id for item_id in ids if item_id not in known]
        if len(ids) != length:
            problems.add(path, number, f"{quote(window)} (user {quote(user)}, genre {quote(genre)}) is no list of {length} items.", unit="window")
        elif unknown:
            problems.add(path, number, f"the item {quote(unknown[0])} (user {quote(user)}) has no path or no text.", unit="window")
        else:
            windows.setdefault(user, []).append(ids)
    return windows


def list_windows(table: dict, path: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield (user, genre, window) in file order; DataError if the nesting is another."""
    for user, genres in table.items():
        for genre, windows in require_dict(genres, path).items():
            if not isinstance(windows, list | tuple | np.ndarray):
                raise DataError(f"{path}: user {quote(user)} has a {type(windows).__name__} where a list of windows must be.")
            yield from ((str(user), str(genre), window) for window in windows)


def require_dict(value: Any, path: Path) -> dict:
    """Return `value`; DataError if it is no dict."""
    if not isinstance(value, dict):
        raise DataError(f"{path}: the file holds a {type(value).__name__} where a dict must be.")
    return value


def draw_cases(windows: Windows, split: str, available: set[str], losses: Losses, *, seed: int) -> Iterator[dict[str, Any]]:
    """Draw one usable window of every user of a split; all else is added to the losses."""
    for user, choices in windows.items():
        usable = [ids for ids in choices if available.issuperset(ids) and ids[-1] not in ids[:-1]]
        num_read = sum(map(len, choices))
        if not usable:
            reason = f"none of {len(choices)} windows has a readable image of every item, and a reference that is not in its own history"
            losses.leave_out(f"{user}, split {split}", reason, num_read=num_read)
            continue
        digest = hashlib.sha256(f"pigeon:{seed}:{split}:{user}".encode()).hexdigest()
        *history, reference = usable[random.Random(digest).randrange(len(usable))]
        distinct = tuple(dict.fromkeys(history))
        case = build_case(UserSequence(user, distinct, reference), split)
        losses.count("are of windows that were not drawn, one of every user and split is", num_read - len(history) - 1)
        losses.count(REPEATED, len(history) - len(distinct))
        losses.count(REFERENCES, 1)
        yield case | {"case_id": f"case-{user}-{split}"}
