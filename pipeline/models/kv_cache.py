"""Keys and values of a shared prefix and of what follows it, in buffers of their final size: growing by copying costs a third of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers.cache_utils import Cache


def build_cache(prefix: Cache | None, size: int, capacity: int) -> Any:
    """Build a cache for `size` rows and `capacity` tokens that begins with the one-row cache `prefix`; for inference only."""
    from transformers.cache_utils import Cache, DynamicLayer

    class RoomyLayer(DynamicLayer):
        """A layer that writes into preallocated buffers; `keys` and `values` are views of the part in use."""

        def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.buffers = [states.new_empty(size, states.shape[1], capacity, states.shape[3]) for states in (key_states, value_states)]
            self.keys, self.values = (buffer[:, :, :0] for buffer in self.buffers)
            self.is_initialized = True

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            start, stop = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
            for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
                buffer[:, :, start:stop] = states
            self.keys, self.values = (buffer[:, :, :stop] for buffer in self.buffers)
            return self.keys, self.values

    if prefix is None:
        return Cache(layer_class_to_replicate=RoomyLayer)
    layers = [RoomyLayer() for _ in prefix.layers]
    for layer, known in zip(layers, prefix.layers, strict=True):
        layer.update(known.keys, known.values)
    return Cache(layers=layers)
