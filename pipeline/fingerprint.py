"""The identity of work: a hash of everything that decides it, from values that are written as canonical JSON first."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path


def compute_fingerprint(*parts: object) -> str:
    """Return the sha256 (hex) of the parts' canonical JSON; dataclasses, bytes, tensors and paths are taken."""
    return hashlib.sha256(dump_canonical(parts).encode()).hexdigest()


def dump_canonical(value: object) -> str:
    """Return JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_encode_value, ensure_ascii=False)


def _encode_value(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Path):
        return str(value)
    torch = sys.modules.get("torch")  # who has a tensor has imported it
    if torch is not None and isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return {"sha256": hashlib.sha256(data).hexdigest(), "dtype": str(value.dtype), "shape": list(value.shape)}
    raise TypeError(f"{type(value).__name__} cannot be hashed")
