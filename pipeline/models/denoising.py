"""What a frozen diffusion model is trained by: latents of images, and the squared error of its prediction under a prompt.

Legend: B images, T rows of a prompt, d token width, C, h, w latent shape.
Paper: Rombach et al. 2022, eq. 3, as Textual Inversion (eq. 2) and PMG use it. Departures:
1. An image's latent is the mean of its posterior, computed once; the training scripts sample it anew each step.
2. The target is what the model was trained to predict (noise for Stable Diffusion 1.5, velocity for our small model).
3. On a GPU gradients pass through bfloat16 weights: in float16, the number format of drawing, small ones would vanish.
4. At large image sizes what the backward pass needs is computed again instead of kept: a row of a full model would hold some gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion

MIN_CHECKPOINTED_SIZE = 256  # px


def choose_training_dtype(device: torch.device) -> torch.dtype:
    """Return the number format of frozen weights that gradients pass through."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


@torch.no_grad()
def encode_images(images: Sequence[Image.Image], diffusion: Diffusion) -> torch.Tensor:
    """Encode RGB images, resized to the model's size (bicubic, the aspect is ignored) -> scaled latents (B, C, h, w), float32 on the CPU."""
    vae, side = diffusion.pipeline.vae, diffusion.image_size
    resized = [image if image.size == (side, side) else image.resize((side, side), Image.Resampling.BICUBIC) for image in images]
    image_BHWC = torch.from_numpy(np.stack([np.asarray(image) for image in resized]))
    image_BCHW = (image_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1).to(diffusion.device, diffusion.dtype)
    return (vae.encode(image_BCHW).latent_dist.mode() * vae.config.scaling_factor).float().cpu()


def draw_noise(latent_shape: Sequence[int], num_timesteps: int, *, generator: torch.Generator) -> tuple[int, torch.Tensor]:
    """Draw a timestep in [0, num_timesteps), uniformly, and noise (C, h, w)."""
    timestep = int(torch.randint(num_timesteps, (), generator=generator))
    return timestep, torch.randn(tuple(latent_shape), generator=generator)


class Denoiser:
    """A diffusion model's U-Net with the noise schedule that it was trained on."""

    def __init__(self, diffusion: Diffusion) -> None:
        from diffusers import DDPMScheduler

        if diffusion.image_size >= MIN_CHECKPOINTED_SIZE:
            diffusion.pipeline.unet.enable_gradient_checkpointing()
        self.diffusion = diffusion
        self.schedule: Any = DDPMScheduler.from_config(diffusion.pipeline.scheduler.config)
        self.num_timesteps: int = self.schedule.config.num_train_timesteps

    def compute_loss(self, latent_BChw: torch.Tensor, prompt_BTD: torch.Tensor, timestep_B: torch.Tensor, noise_BChw: torch.Tensor) -> torch.Tensor:
        """Compute the mean squared error of each row's prediction -> (B,) in float32, differentiable with respect to the prompt."""
        device, dtype = self.diffusion.device, self.diffusion.dtype
        latent_BChw, noise_BChw, timestep_B = latent_BChw.to(device), noise_BChw.to(device), timestep_B.to(device)
        noisy_BChw = self.schedule.add_noise(latent_BChw, noise_BChw, timestep_B)
        output_BChw = self.diffusion.pipeline.unet(
            noisy_BChw.to(dtype), timestep_B, encoder_hidden_states=prompt_BTD.to(device, dtype), return_dict=False
        )[0]
        target_BChw = self._build_target(latent_BChw, noise_BChw, timestep_B)
        return (output_BChw.float() - target_BChw).square().mean(dim=(1, 2, 3))

    def _build_target(self, latent_BChw: torch.Tensor, noise_BChw: torch.Tensor, timestep_B: torch.Tensor) -> torch.Tensor:
        kind = self.schedule.config.prediction_type
        if kind == "epsilon":
            return noise_BChw
        if kind == "v_prediction":
            return self.schedule.get_velocity(latent_BChw, noise_BChw, timestep_B)
        if kind == "sample":
            return latent_BChw
        raise ValueError(f"the diffusion model predicts {kind!r}, but it must be one of: epsilon, v_prediction, sample.")
