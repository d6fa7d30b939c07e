"""What the names of pictures end in, which files are no pictures whatever they end in, and when two names mean the same file."""

from __future__ import annotations

import unicodedata
from html import unescape
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

READABLE = (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib")
OTHER = (".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".jxl", ".jp2", ".ico")  # found, so that the sentence is about their format
SUFFIXES = READABLE + OTHER
COMPANIONS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx", "icon\r", "$recycle.bin", "system volume information"})


def is_companion(name: str) -> bool:
    """Say whether a file or folder is one that systems put beside pictures: .DS_Store, ._001.png, Thumbs.db, @eaDir."""
    return name.startswith(".") or name.lower() in COMPANIONS


def is_companion_path(name: str) -> bool:
    """Say whether a path, written with either slash, is or lies in a companion."""
    return any(is_companion(part) for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


def fold_name(name: str) -> str:
    """Return a name in the form in which names are compared: one case, composed letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def list_readings(name: str, folder: str) -> list[str]:
    """List what a written name may mean inside of `folder`, folded: slashes of either kind, %20 and &amp; decoded, the folder's own name left out."""
    readings = []
    name = drop_host(name)
    for written in (name, unquote(name), unescape(name)):
        parts = [fold_name(part.strip()) for part in written.replace("\\", "/").split("/")]
        own = fold_name(folder)
        if own in parts[:-1]:
            parts = parts[len(parts) - parts[::-1].index(own) :]
        reading = "/".join(part for part in parts if part not in ("", "."))
        if reading and reading not in readings:
            readings.append(reading)
    return readings


def drop_host(name: str) -> str:
    """Return the path of a URL, without what follows a ? or #; other names as they are."""
    try:
        return urlsplit(name).path if "://" in name else name
    except ValueError:  # no URL after all
        return name


def loosen_name(name: str) -> str:
    """Return what is left of a file's name when it is remembered badly: letters and digits of its stem, without leading zeros."""
    stem = PurePosixPath(fold_name(unquote(drop_host(name))).replace("\\", "/")).name.strip()
    stem = stem.removesuffix(next((suffix for suffix in SUFFIXES if stem.endswith(suffix)), ""))
    return "".join(char for char in stem if char.isalnum()).lstrip("0")
