"""The manifest: one row for every candidate and every rejected request, as Parquet for programs and as CSV for people.

A person who reads only the manifest can say what was asked for, what was drawn from which words and items, and why a picture was chosen.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.artifacts import write_table
from pipeline.draw.scores import SHOWN
from pipeline.schemas import STRINGS, Table
from pipeline.spreadsheets import write_csv

CHOSEN, OTHER, REJECTED = "chosen", "other candidate", "rejected"
RETRIEVED = pa.list_(pa.struct([("item_id", pa.string()), ("weight", pa.float64())]))
TEXTS = ("request_id", "status", "file", "reason", "user_id", "user_vector", "reference_id", "reference_text", "method", "prompt")
FLAGS = ("keep_original", "is_sound", "shows_the_thing", "is_preferred")
MANIFEST = Table(
    "manifest",
    {
        "request": pa.int64(),  # line or row of the table of requests
        "candidate": pa.int64(),  # from 1; 0 for a rejected request
        "request_id": pa.string(),
        "status": pa.string(),  # chosen | other candidate | rejected
        "file": pa.string(),  # relative to the manifest
        "keep_original": pa.bool_(),  # whether the catalogue's own picture is to be kept
        "reason": pa.string(),  # of the choice, or of the rejection
        "user_id": pa.string(),
        "user_vector": pa.string(),  # trained | inductive: how the reward's ranker knows the user
        "reference_id": pa.string(),
        "reference_text": pa.string(),
        "method": pa.string(),
        "seed": pa.int64(),
        "start": pa.string(),  # noise | reference: what the picture begins with; empty for one that is copied
        "strength": pa.float64(),  # how much of the reference's picture is drawn anew
        "prompt": pa.string(),  # what a text encoder read, or RAGAR's p_g
        "keywords": STRINGS,  # w', most frequent first
        "retrieved": RETRIEVED,  # most similar first
        "caption": pa.string(),  # of the drawn picture
        "is_sound": pa.bool_(),
        "shows_the_thing": pa.bool_(),
        "is_preferred": pa.bool_(),
        "cs_original": pa.float64(),
        **dict.fromkeys(SHOWN, pa.float64()),
        "case_id": pa.string(),  # decides the noise together with the run's seed
        "image_sha256": pa.string(),  # of the file
    },
    key=("request", "candidate"),
    nullable=(*FLAGS, "seed", "strength", "cs_original", *SHOWN),
)
BLANK: dict[str, Any] = {name: "" if kind == pa.string() else [] if pa.types.is_list(kind) else None for name, kind in MANIFEST.columns.items()}
PART_BYTES = 60  # of a file's name
NOT_IN_NAMES = re.compile(r"[^\w]+")


def build_row(**values: Any) -> dict[str, Any]:
    """Return a row of the manifest; what is not given is empty or unknown."""
    return {**BLANK, **values}


def write_manifest(folder: Path, rows: Sequence[dict[str, Any]], provenance: dict[str, object]) -> None:
    """Write manifest.csv and then manifest.parquet, each as a whole; texts that a spreadsheet would run as formulas do not run."""
    write_csv(folder / "manifest.csv", [flatten_row(row) for row in rows], tuple(MANIFEST.columns))
    write_table(folder / "manifest.parquet", list(rows), MANIFEST, provenance=provenance)


def flatten_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose lists are texts, and whose flags are words."""
    retrieved = "; ".join(f"{pair['item_id']} ({pair['weight']:.2f})" for pair in row["retrieved"])
    flags = {name: "" if row[name] is None else "yes" if row[name] else "no" for name in FLAGS}
    return {name: "" if value is None else value for name, value in row.items()} | {
        "keywords": ", ".join(row["keywords"]),
        "retrieved": retrieved,
        **flags,
    }


def name_file(*parts: str, suffix: str) -> str:
    """Return a file's name of speaking parts: letters and digits of any script, joined by dashes, safe on every file system."""
    return "-".join(filter(None, map(clean_part, parts))) + suffix


def clean_part(text: str) -> str:
    """Return what of a text may stand in a file's name."""
    text = NOT_IN_NAMES.sub("-", unicodedata.normalize("NFC", text)).strip("-_")
    return text.encode()[:PART_BYTES].decode(errors="ignore").strip("-_")
