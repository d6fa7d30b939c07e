"""Low-rank adapters on the attention of a frozen U-Net (LoRA, Hu et al. 2021), with peft as diffusers' training scripts use it.

Weights start from the generator that is given, and stay in float32 whatever the U-Net's number format is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline.cluster.parcels import forget_call

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def add_lora(diffusion: Diffusion, *, rank: int, generator: torch.Generator) -> dict[str, nn.Parameter]:
    """Put adapters that change nothing yet into the model and return their trainable weights by name."""
    from peft import LoraConfig

    forget_call(diffusion)
    unet = diffusion.pipeline.unet
    with torch.random.fork_rng():  # peft draws from the global generator; those values are replaced below
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS)))
    weights = {name: parameter for name, parameter in unet.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for name, weight in sorted(weights.items()):
            weight.data = weight.data.float()
            if "lora_A" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) / rank)
            else:
                weight.zero_()
    return weights


def load_lora(diffusion: Diffusion, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put trained adapters into the model; none leave it as it is. ValueError if they were trained for another U-Net."""
    if not tensors:
        return
    rank = next(value.shape[0] for name, value in tensors.items() if "lora_A" in name)
    weights = add_lora(diffusion, rank=rank, generator=torch.Generator())
    if {name: tuple(value.shape) for name, value in tensors.items()} != {name: tuple(weight.shape) for name, weight in weights.items()}:
        raise ValueError("the LoRA weights were trained for another diffusion model: run the stage sd again.")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(tensors[name])
            weight.requires_grad_(False)
