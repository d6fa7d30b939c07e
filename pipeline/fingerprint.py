"""The identity of work: a hash of everything that decides it, from values that are written as canonical JSON first."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path


def compute_fingerprint(*parts: object) -> str:
    """Return the sha256 (hex) of the parts' canonical JSON; dataclasses, bytes and paths are taken."""
    return hashlib.sha256(dump_canonical(parts).encode()).hexdigest()


def dump_canonical(value: object) -> str:
    """Return JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_encode_value, ensure_ascii=False)


def _encode_value(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be hashed")
