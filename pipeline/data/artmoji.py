"""The same things drawn by several artist teams: the raw material of the data set `artmoji`.

`things.csv` names every thing, its category and its subgroup, in Unicode's order; `pictures.parquet` holds what each family (an emoji set by one
team) draws of it. Authors, licences and sources of every family: `data/raw/artmoji/NOTICE.md`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from PIL import Image

from pipeline.artifacts import read_table
from pipeline.data.csv_files import read_csv
from pipeline.data.image_policy import ImageError
from pipeline.data.images import decode_image
from pipeline.data.problems import Problems
from pipeline.schemas import IMAGE, Table

FAMILIES = ("noto", "noto-v1", "twemoji", "openmoji", "fluent-3d", "fluent-emoji-flat", "emojione", "emojione-v1", "fxemoji")
PICTURE_SIZE = 64  # px, square
HELD_OUT_ONE_IN = 10
THINGS, PICTURES = "things.csv", "pictures.parquet"
PICTURE_TABLE = Table("pictures", {"code_point": pa.string(), "family": pa.string(), "image": IMAGE}, key=("code_point", "family"))


@dataclass(frozen=True)
class Thing:
    """What all families draw: `category` is Unicode's group, which a catalogue shows, `subgroup` its finer part."""

    code_point: str
    name: str
    category: str
    subgroup: str


def read_things(folder: Path) -> list[Thing]:
    """Read the things in Unicode's order."""
    path = folder / THINGS
    if not path.is_file():
        raise ValueError(f"{path}, the table of things, does not exist.")
    problems = Problems()
    things = [Thing(**row) for _, row in read_csv(path, ("code_point", "name", "category", "subgroup"), (), problems)]
    problems.raise_if_any()
    return things


class Pictures:
    """The drawings of all families, decoded when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / PICTURES
        table = read_table(self.path, PICTURE_TABLE)
        keys = zip(table["code_point"].to_pylist(), table["family"].to_pylist(), strict=True)
        self._images = dict(zip(keys, (image["bytes"] for image in table["image"].to_pylist()), strict=True))

    def draw(self, thing: Thing, family: str) -> Image.Image:
        """Return a family's drawing of a thing on white; ValueError if there is none, or it is damaged."""
        data = self._images.get((thing.code_point, family))
        if data is None:
            raise ValueError(f"{self.path} has no picture of {thing.name!r} ({thing.code_point}) by {family}.")
        try:
            return decode_image(data)
        except ImageError as error:
            raise ValueError(f"{self.path}: {thing.name!r} ({thing.code_point}) by {family} cannot be read. {error}") from error


def is_held_out(thing: Thing, family: str) -> bool:
    """Say whether no model of ours may see this pair in training: a tenth of all pairs, of every family alike."""
    digest = hashlib.sha256(f"held-out/{thing.code_point}/{family}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < 1 / HELD_OUT_ONE_IN
