"""Keys and values of a prompt for a U-Net's cross-attention, computed once for all steps of a drawing."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch


@contextlib.contextmanager
def project_once(unet: torch.nn.Module, prompt_BTD: torch.Tensor) -> Iterator[None]:
    """Compute the prompt's keys and values once for all steps of a drawing: every step would compute the same ones again."""
    layers = [layer for module in unet.modules() if getattr(module, "is_cross_attention", False) for layer in (module.to_k, module.to_v)]
    for layer in layers:
        layer.forward = functools.partial(_get_known, prompt_BTD, layer(prompt_BTD), layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # that of its class stands again


def _get_known(known: torch.Tensor, result: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor], given: torch.Tensor) -> torch.Tensor:
    """Return the result that belongs to `known`; compute it for another tensor."""
    return result if given is known else compute(given)
