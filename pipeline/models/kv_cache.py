"""Keys and values of a shared prefix and of what follows it, a row of a buffer for each prompt.

Ours instead of the library's caches: DynamicCache copies all that it holds at every step and whenever a row leaves, StaticCache makes
every step attend to its whole capacity, and both begin with a copy of the prefix for every batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers.cache_utils import Cache


class RowCache:
    """What a model's layers need of a cache: tokens are written into `rows` from position `start` on, and all up to them are returned.

    The prefix is copied once; the buffers serve one batch after the other. For inference only.
    """

    def __init__(self, prefix: Cache | None, size: int, capacity: int) -> None:
        self.size, self.capacity = size, capacity
        self.rows, self.start = slice(0, size), 0
        self._prefix = prefix
        self._buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def seek(self, rows: slice, start: int) -> None:
        """Say where the next tokens go."""
        self.rows, self.start = rows, start

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any) -> list[torch.Tensor]:
        """Write new tokens (one row's into all rows); return keys and values of all tokens up to them."""
        if layer not in self._buffers:
            self._buffers[layer] = (self._open(keys), self._open(values))
            if self._prefix is not None:
                known = self._prefix.layers[layer]
                for buffer, states in zip(self._buffers[layer], (known.keys, known.values), strict=True):
                    buffer[:, :, : states.shape[2]] = states
        stop = self.start + keys.shape[2]
        for buffer, states in zip(self._buffers[layer], (keys, values), strict=True):
            buffer[self.rows, :, self.start : stop] = states
        return [buffer[self.rows, :, :stop][: len(keys)] for buffer in self._buffers[layer]]

    def keep(self, rows: list[int], *, start: int, stop: int) -> None:
        """Move the tokens from `start` to `stop` of `rows` into the first rows."""
        for buffers in self._buffers.values():
            for buffer in buffers:
                buffer[: len(rows), :, start:stop] = buffer[rows, :, start:stop]

    def _open(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_zeros(self.size, states.shape[1], self.capacity, states.shape[3])  # zeros: what is masked must be finite
