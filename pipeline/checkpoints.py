"""Training checkpoints that outlive a crash: one sealed file in the folder of the training's key, replaced by the next.

They can only be opened with the code and the inputs that decide the weights, by one process at a time; see `pipeline.work.open_work`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import read_tensors, write_tensors
from pipeline.files import is_intact, list_sealed, set_aside, write_sealed
from pipeline.work import open_work

if TYPE_CHECKING:
    import torch

CHANGES_NO_RESULT = True
NAME, SUFFIX = "checkpoint-", ".safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on: tensors on the CPU, and facts as JSON keeps them."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one training; usually there is one, and two only where a kill came between writing and removing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, checkpoint: Checkpoint, *, step: int) -> None:
        """Replace the last checkpoint: a kill at any time leaves the old one or the new one as a whole."""
        older = list_sealed(self._folder, NAME, SUFFIX)
        path = write_sealed(
            self._folder, f"{NAME}{step:08d}", SUFFIX, lambda temporary: write_tensors(temporary, checkpoint.tensors, checkpoint.facts)
        )
        for other in older:
            if other != path:
                other.unlink()

    def load(self, check: Callable[[Checkpoint], None]) -> Checkpoint | None:
        """Return the last checkpoint that is intact and passes `check` (a ValueError if not), or None; any other is set aside with a warning."""
        for path in reversed(list_sealed(self._folder, NAME, SUFFIX)):
            if is_intact(path):
                with contextlib.suppress(ValueError):
                    checkpoint = Checkpoint(*read_tensors(path))
                    check(checkpoint)
                    return checkpoint
            set_aside(path)
        return None


@contextlib.contextmanager
def open_checkpoints(name: str, *, code: Sequence[Any], inputs: object) -> Iterator[CheckpointFolder]:
    """Open the checkpoints of the training `name` whose weights `code` computes from `inputs`, which hold every datum that it reads."""
    with open_work(name, code=code, inputs=inputs) as folder:
        yield CheckpointFolder(folder)
