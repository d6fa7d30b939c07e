"""How a model is named in the params: a folder, a hub id with an optional `@commit`, or an open_clip name; and its number format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.params import read_section

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def read_reference(params: Path, role: str) -> str:
    """Read the reference of the model with the given role, such as `captioner`, from the params' `models` block."""
    reference = read_section(params, f"models.{role}")
    if not isinstance(reference, str) or not reference:
        raise ValueError(f"{params}: models.{role} is {reference!r}, but it must name a model: a folder, a hub id or embedded/<name>.")
    return reference


def split_revision(reference: str) -> tuple[str, str | None]:
    """Split `org/name@commit` into hub id and commit; without `@` (folders included) the commit is None."""
    name, separator, revision = reference.rpartition("@")
    return (name, revision) if separator and "/" not in revision else (reference, None)


def parse_dtype(name: object, device: torch.device) -> torch.dtype:
    """Return the number format called `name`; on a CPU it is always float32, where half formats are slow or missing."""
    if name not in DTYPES:
        raise ValueError(f"models.dtype is {name!r}, but it must be one of: {', '.join(DTYPES)}.")
    return torch.float32 if device.type == "cpu" else DTYPES[str(name)]


def check_loaded(report: dict) -> None:
    """Raise ValueError if weights were missing or did not fit: transformers would only warn and leave them random."""
    missing = sorted([*report["missing_keys"], *map(str, report["mismatched_keys"])])
    if missing:
        raise ValueError(f"{len(missing)} of its weights are missing or do not fit, the first is {missing[0]}")


@contextlib.contextmanager
def explain_load_error(role: str, reference: str) -> Iterator[None]:
    """Turn what libraries raise while loading a model into one sentence that names it."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        hint = "" if Path(reference).is_dir() else " A hub model must be downloaded once with HF_HUB_OFFLINE=0."
        raise ValueError(f"The {role} {reference!r} cannot be loaded: {lines[0].rstrip('.')}.{hint}") from error
