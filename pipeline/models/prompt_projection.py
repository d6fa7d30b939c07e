"""Keys and values of a prompt for a U-Net's cross-attention, computed once for all steps of a drawing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch

CHANGE = threading.Lock()  # of what layers know: threads may draw with one U-Net, each from a prompt of its own


class Known:
    """A layer's `forward` that looks up what it is given before it computes."""

    def __init__(self, compute: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.compute = compute
        self.results: dict[int, torch.Tensor] = {}  # by the id of a prompt that is being drawn

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        """Return the result that belongs to a prompt; compute it for another tensor."""
        known = self.results.get(id(given))
        return self.compute(given) if known is None else known


@contextlib.contextmanager
def project_once(unet: torch.nn.Module, prompt_BTD: torch.Tensor) -> Iterator[None]:
    """Compute the prompt's keys and values once for all steps of a drawing: every step would compute the same ones again."""
    layers = [layer for module in unet.modules() if getattr(module, "is_cross_attention", False) for layer in (module.to_k, module.to_v)]
    results = [layer(prompt_BTD) for layer in layers]
    with CHANGE:
        for layer, result in zip(layers, results, strict=True):
            if not isinstance(layer.forward, Known):
                layer.forward = Known(layer.forward)
            layer.forward.results[id(prompt_BTD)] = result
    try:
        yield
    finally:
        with CHANGE:
            for layer in layers:
                del layer.forward.results[id(prompt_BTD)]
                if not layer.forward.results:
                    del layer.forward  # that of its class stands again
