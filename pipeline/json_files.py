"""JSON files: read with one sentence if they are broken, written with sorted keys, so that equal values give equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.files import write_bytes

MAX_BYTES = 256 * 2**20


def read_json(path: Path) -> Any:
    """Read a JSON file; ValueError names the file if it is broken, larger than MAX_BYTES, or nested too deeply for Python's parser."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than the allowed {MAX_BYTES:,} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path} is not a readable JSON file (it is nested too deeply).") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable JSON file ({error}).") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys and a final newline, atomically; NaN is refused."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())
