"""Reading the official files of GLIDE's and LaVIT's own networks: nothing but tensors, no more than belongs there, every fault in one sentence.

torch has saved the official ones. A file of the same name in safetensors, as our small models have it, takes their place.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

ROOM = 16 * 2**20  # bytes for what a file holds beside its numbers
WIDEST = 8  # bytes of a number

M = TypeVar("M", bound=nn.Module)


def load_weights(model: M, path: Path, *, source: str, spare: int = 0) -> M:
    """Fill a model that was built on the meta device, as float32; `spare` numbers of other names may be there too and are left out.

    `source` says where the file comes from, if it is missing.
    """
    expected = model.state_dict()
    state = read_file(path, source=source, max_bytes=ROOM + WIDEST * (sum(value.numel() for value in expected.values()) + spare))
    check_state(state, expected, path, allows_others=spare > 0)
    model.load_state_dict({name: state[name].float() for name in expected}, assign=True)
    return model


def read_file(path: Path, *, source: str, max_bytes: int) -> Any:
    """Read tensors and plain values alone; ValueError if the file is missing or larger than it may be, packed or not."""
    safe = path.with_suffix(".safetensors")
    if safe.is_file():
        path = safe
    if not path.is_file():
        raise ValueError(f"{path} is missing; {source}")
    size = path.stat().st_size
    if path != safe and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    if size > max_bytes:
        raise ValueError(f"{path} holds {size:,} bytes, but {max_bytes:,} are the most that can belong there")
    return load_file(path) if path == safe else torch.load(path, map_location="cpu", weights_only=True)


def check_state(state: Any, expected: Mapping[str, Tensor], path: Path, *, allows_others: bool) -> None:
    """Raise ValueError if the weights are not those of a model of this size."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict; take the official file as it is")
    shapes, given = ({name: tuple(value.shape) for name, value in values.items()} for values in (expected, state))
    wrong = [name for name in sorted(shapes) if given.get(name) != shapes[name]]
    wrong += [] if allows_others else sorted(given.keys() - shapes.keys())
    if wrong:
        first = wrong[0]
        raise ValueError(
            f"{len(wrong)} weights of {path} are missing, too many or of another shape, the first is {first} "
            f"({given.get(first, 'not there')}, expected {shapes.get(first, 'nothing of that name')})"
        )
