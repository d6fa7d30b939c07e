"""What a file is by its first bytes, whatever its name says: for the sentence about a file that is not what it should be."""

from __future__ import annotations

from pathlib import Path

PARQUET = "a Parquet file"

STARTS = {  # the longer ones before those that they begin with
    b"PAR1": PARQUET,
    b"PK\x03\x04": "a ZIP archive, as .xlsx, .ods and .docx files are",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office document (.xls, .doc)",
    b"\x1f\x8b": "compressed with gzip",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\0": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"SQLite format 3\0": "an SQLite database",
    b"ARROW1": "an Arrow (Feather) file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"%PDF-": "a PDF document",
    b"%!PS": "a PostScript document",
    b"{\\rtf": "an RTF document",
    b"version https://git-lfs.github.com/spec/": "a pointer of Git LFS, whose file has not been downloaded (`git lfs pull` does that)",
    b"\x89PNG\n\x1a\n": "a PNG image whose line ends were changed, as if it were a text",
    b"\0\x05\x16\x07": "a companion file of macOS",
    b"8BPS": "a Photoshop image",
    b"gimp xcf": "a GIMP image",
    b"II*\0\x10\0\0\0CR": "a camera's raw image",
    b"II*\0": "a TIFF image, or a camera's raw one",
    b"MM\0*": "a TIFF image, or a camera's raw one",
    b"II+\0": "a BigTIFF image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\0\0\x01\0": "an icon (.ico)",
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
    b"data:image/": "an image that is written as a URL (base64)",
}
BRANDS = {  # of ISO media files, behind `ftyp`
    "an AVIF image": (b"avif", b"avis"),
    "a HEIC image": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
    "a camera's raw image": (b"crx ",),
}
TAGS = {b"<svg": "an SVG drawing", b"<!doctype html": "a page of HTML", b"<html": "a page of HTML", b"<?xml": "an XML document"}
JSON = (b"[{", b'{"', b"[[")
START_BYTES = 1_024


def read_kind(path: Path) -> str | None:
    """Return what a file is; None as in `name_kind`."""
    with path.open("rb") as file:
        return name_kind(file.read(START_BYTES))


def name_kind(start: bytes) -> str | None:
    """Return what a file is that starts so, for use behind "is"; None if that is not known, or if it may be a table, a text or a usable image."""
    if start[4:8] == b"ftyp":
        return next((kind for kind, brands in BRANDS.items() if start[8:12] in brands), "a video")
    known = next((kind for magic, kind in STARTS.items() if start.startswith(magic)), None)
    if known or not start.strip(b"\0"):
        return known or ("nothing but zeros" if start else None)
    text = start[:START_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<"):
        return next((kind for tag, kind in TAGS.items() if tag in text), None)
    if text.startswith((b"http://", b"https://")) and len(text.split()) == 1:
        return "a URL"
    return "a JSON document" if b"".join(text[:8].split()).startswith(JSON) else None
