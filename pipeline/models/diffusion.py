"""Stable Diffusion behind two verbs, encode prompts and draw; one code path for SD 1.5 and for our small model of the same classes.

SIGNATURES FIRST (bodies follow).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


class Diffusion:
    """A frozen Stable Diffusion pipeline: token states in, images out."""

    token_dim: int  # width d of a token state (768 in SD 1.5)
    num_tokens: int  # length K of an encoded prompt (77 in SD 1.5, 32 in the embedded model)
    image_size: int  # pixels of a side
    device: torch.device

    def encode_prompts(self, prompts: list[str], *, batch_size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode texts: token states (B, K, d) float32 on the CPU and a bool mask (B, K), True at tokens that are not padding."""
        raise NotImplementedError

    def draw(
        self, prompt_BTD: torch.Tensor, *, generators: list[torch.Generator], steps: int, guidance_scale: float
    ) -> np.ndarray:
        """Draw one image a row, any T: uint8 (B, H, W, 3). A row depends on its prompt and its own CPU generator only."""
        raise NotImplementedError


def load_diffusion(
    reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, scheduler: str = "dpm"
) -> Diffusion:
    """Load a Stable Diffusion pipeline from a hub id or folder; `scheduler` is dpm, ddim or own (the folder's)."""
    raise NotImplementedError
