"""SER30K: stickers by theme, with the paper's protocol: two random themes merged into a history, the reference from another theme.

    <raw>/Images/<topic>/<file_name>
    <raw>/Annotations/{train,val,test}.json, or <raw>/Annotations/image-level/{train,val,test}.json
        {"annotations": [{"topic": ..., "file_name": ..., "anno": 1 to 7, "text": words on the sticker}, ...]}

The paper says only "merge two random themes into user historical sequences and randomly select a reference sticker from other
themes". Departures: 1. `stickers_per_theme` of each theme, shuffled and cut to `history_length`; 2. the reference is uniform over all
stickers of the other themes; 3. the emotions' names are used only where `emotions` gives their order, which is not documented.
The reference is nothing that the user has looked at, so its rank is large and the rank change lives in about (-1, 1).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from pipeline.config import config_dataclass
from pipeline.data.dataset import Dataset, TooFewImagesError
from pipeline.data.losses import Losses
from pipeline.data.picture_folder import PictureFolder, PictureNameError, Place
from pipeline.data.problems import DataError, Problems, quote
from pipeline.data.raw_files import MAX_TEXT_CHARS, require_file, require_folder
from pipeline.data.source import RawItem, SplitConfig, UserSequence, build_tables, load_catalogue
from pipeline.json_files import read_json
from pipeline.params import load_params

ANNOTATION_SPLITS = ("train", "val", "test")
NUM_EMOTIONS = 7
KEYS = {"topic": str, "file_name": str, "anno": int, "text": str}


@config_dataclass
class Ser30kConfig(SplitConfig):
    """Params of SER30K; explained in conf/dataset/ser30k.yaml."""

    num_users: Annotated[int, Ge(3)]
    stickers_per_theme: int
    emotions: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if 2 * self.stickers_per_theme < self.history_length:
            raise ValueError(f"stickers_per_theme is {self.stickers_per_theme}, but two themes must fill history_length, {self.history_length}.")
        if len(self.emotions) not in (0, NUM_EMOTIONS):
            raise ValueError(f"emotions has {len(self.emotions)} names, but it must have {NUM_EMOTIONS}, or none.")


def build_from_params(params: Path, extra: Path, seed: int) -> Dataset:
    """Build the data set that the params' `dataset` block says."""
    return build_ser30k(load_params(params, "dataset", Ser30kConfig), extra=extra, seed=seed)


def build_ser30k(config: Ser30kConfig, *, extra: Path, seed: int) -> Dataset:
    """Read the annotations, load the stickers, and draw the users."""
    raw = require_folder(Path(config.raw))
    problems = Problems()
    raw_items = read_stickers(raw, config.emotions, problems)
    problems.raise_if_any()
    catalogue = load_catalogue(raw_items, config)
    themes: dict[str, list[str]] = {}
    for item_id in sorted(catalogue.items):
        themes.setdefault(item_id.split("/")[0], []).append(item_id)
    large = [theme for theme, stickers in themes.items() if len(stickers) >= config.stickers_per_theme]
    if len(large) < 2 or len(themes) < 3:
        raise TooFewImagesError(
            f"{config.raw}: {len(large)} of {len(themes)} themes have {config.stickers_per_theme} readable stickers or more, but 2 such themes "
            "and a third one are needed; lower dataset.stickers_per_theme and dataset.history_length, or add stickers.",
            catalogue.missing,
        )
    sequences = [draw_user(themes, large, index, config, seed=seed) for index in range(config.num_users)]
    facts = {"themes": len(themes), "themes_of_histories": len(large)}
    data = build_tables(catalogue, sequences, config, extra=extra, facts=facts, losses=Losses())
    return replace(data, notes=list_small_themes(themes, config))


def list_small_themes(themes: dict[str, list[str]], config: Ser30kConfig) -> list[str]:
    """Return the line that says which themes are in no history: users are drawn, so nothing else of the stickers is lost."""
    small = {theme: len(stickers) for theme, stickers in themes.items() if len(stickers) < config.stickers_per_theme}
    if not small:
        return []
    first = next(iter(small))
    return [
        f"themes: {len(small):,} of {len(themes):,} have fewer than {config.stickers_per_theme} readable stickers (dataset.stickers_per_theme), e.g. "
        f"{quote(first)} with {small[first]}; their {sum(small.values()):,} stickers are drawn as references and in no history"
    ]


def read_stickers(raw: Path, emotions: Sequence[str], problems: Problems) -> list[RawItem]:
    """Read the stickers of all annotation files, in their order; a sticker that is annotated twice is a problem."""
    annotations, images = require_folder(raw / "Annotations"), require_folder(raw / "Images")
    folder = annotations / "image-level" if (annotations / "image-level").is_dir() else annotations
    pictures = PictureFolder(images)
    items: dict[str, RawItem] = {}
    for split in ANNOTATION_SPLITS:
        path = folder / f"{split}.json"
        for number, entry in enumerate(read_annotations(path), start=1):
            wrong = find_fault(entry)
            if wrong:
                problems.add(path, number, wrong, unit="annotation")
                continue
            item_id = f"{entry['topic']}/{entry['file_name']}"
            if "/" in entry["topic"]:
                problems.add(path, number, f"the topic {quote(entry['topic'])} is no name of a folder inside of {images}.", unit="annotation")
            elif item_id in items:
                problems.add(path, number, f"{quote(item_id)} is annotated twice.", unit="annotation")
            else:
                try:
                    items[item_id] = build_sticker(item_id, entry, pictures.locate(item_id, item_id), emotions)
                except PictureNameError as error:
                    problems.add(path, number, str(error), unit="annotation")
    return list(items.values())


def read_annotations(path: Path) -> list[Any]:
    """Read one file's list of annotations; DataError if the file is anything else."""
    require_file(path)
    try:
        document = read_json(path)
    except ValueError as error:
        raise DataError(str(error)) from error
    if not isinstance(document, dict) or not isinstance(document.get("annotations"), list):
        raise DataError(f"{path}: the file holds no object with a list under `annotations`.")
    return document["annotations"]


def find_fault(entry: Any) -> str | None:
    """Say what is wrong with an annotation, or None."""
    if not isinstance(entry, dict):
        return f"{quote(entry)} is no object with {', '.join(KEYS)}."
    for key, kind in KEYS.items():
        if not isinstance(entry.get(key), kind) or isinstance(entry.get(key), bool):
            return f"`{key}` is {quote(entry.get(key))}, but it must be of type {kind.__name__}."
        if kind is str and not is_text(entry[key]):
            return f"`{key}` is {quote(entry[key])}, which holds half of a surrogate pair."
        if kind is str and len(entry[key]) > MAX_TEXT_CHARS:
            return f"`{key}` has {len(entry[key]):,} characters, more than the allowed {MAX_TEXT_CHARS:,}."
    if not 1 <= entry["anno"] <= NUM_EMOTIONS:
        return f"`anno` is {quote(entry['anno'])}, but it must be in 1 to {NUM_EMOTIONS}."
    return None


def is_text(value: str) -> bool:
    """Say whether a text can be written: JSON may hold halves of surrogate pairs."""
    return value.isascii() or not re.search("[\ud800-\udfff]", value)


def build_sticker(item_id: str, entry: dict[str, Any], image: Place, emotions: Sequence[str]) -> RawItem:
    """Build the item: emotion (if named) and words on the sticker as text, or the theme's words where it has none; the theme as category."""
    theme = " ".join(re.sub(r"^\d+[-_]", "", entry["topic"]).replace("-", " ").replace("_", " ").split())
    words = [emotions[entry["anno"] - 1] if emotions else "", entry["text"].strip()]
    return RawItem(item_id, " ".join(filter(None, words)) or theme or entry["topic"], theme, image)


def draw_user(themes: dict[str, list[str]], large: Sequence[str], index: int, config: Ser30kConfig, *, seed: int) -> UserSequence:
    """Draw one user: two themes, some stickers of each, shuffled, and a reference from the other themes."""
    digest = hashlib.sha256(f"ser30k:{seed}:{index}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
    pair = [large[i] for i in rng.permutation(len(large))[:2]]
    shown = [str(sticker) for theme in pair for sticker in rng.permutation(themes[theme])[: config.stickers_per_theme]]
    history = [str(sticker) for sticker in rng.permutation(shown)[: config.history_length]]
    others = [sticker for theme, stickers in themes.items() if theme not in pair for sticker in stickers]
    return UserSequence(f"user-{index:05d}", tuple(history), others[int(rng.integers(len(others)))])
