"""The pictures of a raw data set's folder, found by the names that people write into tables.

A name that is a file's is that file. Else it is compared in one case, with composed letters, either slash, percent signs decoded and
without the folder's own name: `images\\\\001.PNG` is `001.png`. Where several files answer to a name nobody guesses: that is a sentence.
A picture must lie in the raw folder, links followed: DVC watches no folder behind a link, and a link may lead to anybody's files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from pipeline.data.picture_names import READABLE, SUFFIXES, fold_name, is_companion, list_readings, loosen_name
from pipeline.data.problems import DataError, quote
from pipeline.data.raw_files import resolve_inside

MAX_EXAMPLES = 3
FIRST_OF_LIST = re.compile(r"""[\[({"' ]*([^|;,"'\])}]+)""")  # a.jpg of a.jpg|b.jpg and of ['a.jpg']


class PictureNameError(ValueError):
    """A name that can be no picture's, or that several pictures answer to; the message is one sentence."""


@dataclass(frozen=True)
class Place:
    """Where a picture is or belongs; `near` is the file that may be meant where there is none."""

    path: Path
    near: str = ""


class PictureFolder:
    """A folder with its subfolders, listed when a name is first looked for that is no file's; companions of other systems are no pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate(self, item_id: str, name: str = "") -> Place:
        """Return the place of an item's picture: the file `name`, or else the one that is called like the item."""
        found = self.find_name(name) if name else self.find_stem(item_id) or self.find_name(item_id)
        if found is not None:
            return Place(found)
        belongs, near = resolve_inside(self.folder, name or f"{item_id}.jpg"), self._find_near(name or item_id)
        if belongs is None:
            guess = f"; did you mean {near}?" if near else "."
            raise PictureNameError(f"the image {quote(name or item_id)} is no file name inside of {self.folder}{guess}")
        return Place(belongs, near)

    def find_name(self, name: str) -> Path | None:
        """Return the file of a name, or None."""
        exact = resolve_inside(self.folder, name)
        if exact is not None and exact.is_file():
            return exact
        for reading in list_readings(name, self.folder.name):
            if reading in self._by_name:
                return self._choose(self._by_name[reading], name)
        return None

    def find_stem(self, stem: str) -> Path | None:
        """Return the file of a name without its suffix, or None; one that can be read goes before one of another format."""
        found = next((self._by_stem[reading] for reading in list_readings(stem, self.folder.name) if reading in self._by_stem), [])
        same = [name for name in found if name[: name.rfind(".")] == stem] or found
        readable = [name for name in same if name.lower().endswith(READABLE)] or same
        return self._choose(readable, stem) if readable else None

    def _find_near(self, name: str) -> str:
        first = FIRST_OF_LIST.match(name)
        return self._near.get(loosen_name(name), "") or (self._near.get(loosen_name(first[1]), "") if first else "")

    def _choose(self, names: Sequence[str], asked: str) -> Path:
        if len(names) > 1:
            listed = ", ".join(sorted(names)[:MAX_EXAMPLES])
            raise PictureNameError(f"{quote(asked)} may be any of {listed} in {self.folder}; keep one of them, or name its file in full.")
        return self.folder / names[0]

    @cached_property
    def _names(self) -> list[str]:
        found = []
        for parent, folders, files in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not is_companion(name))
            here = Path(parent).relative_to(self.folder)
            found += [(here / name).as_posix() for name in sorted(files) if not is_companion(name)]
        return found

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return group(self._names, [fold_name("/".join(part.strip() for part in name.split("/"))) for name in self._names])

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        pictures = [name for name in self._names if name.strip().lower().endswith(SUFFIXES)]
        return group(pictures, [fold_name(name[: name.rfind(".")].strip()) for name in pictures])

    @cached_property
    def _near(self) -> dict[str, str]:
        pictures = [name for name in self._names if name.strip().lower().endswith(SUFFIXES)]
        return {key: name for name in reversed(pictures) if (key := loosen_name(name))}


def group(names: Sequence[str], keys: Sequence[str]) -> dict[str, list[str]]:
    """Return the names by key."""
    grouped: dict[str, list[str]] = {}
    for name, key in zip(names, keys, strict=True):
        grouped.setdefault(key, []).append(name)
    return grouped


def refuse_outside_links(raw: Path, pictures: Sequence[Path]) -> None:
    """Raise DataError if a picture lies outside of `raw` because it, or a folder above it, is a link; `raw` itself may be one."""
    base = raw.resolve()

    @cache
    def leads_outside(folder: Path) -> bool:
        return not folder.resolve().is_relative_to(base)

    folders = dict.fromkeys(path.parent for path in pictures if leads_outside(path.parent))
    links = dict.fromkeys(find_link(raw, folder) for folder in folders)
    files = [path for path in pictures if path.parent not in folders and path.is_symlink() and not path.resolve().is_relative_to(base)]
    sentences = [
        f"{link} is a link to a folder outside of {raw}, and a change behind such a link goes unnoticed; make {raw} itself the link, to a folder "
        "that holds tables and pictures (that one is followed), or put the pictures themselves there."
        for link in links
    ]
    if files:
        examples = ", ".join(map(str, files[:MAX_EXAMPLES]))
        sentences.append(
            f"{examples}: {len(files):,} pictures are links to files outside of {raw}, which are not read; put the files themselves there."
        )
    if sentences:
        raise DataError(*sentences, count=len(sentences))


def find_link(raw: Path, folder: Path) -> Path:
    """Return the topmost link between `raw` and a folder below it."""
    above = [parent for parent in (folder, *folder.parents) if parent != raw and parent.is_relative_to(raw)]
    return next((parent for parent in reversed(above) if parent.is_symlink()), folder)
