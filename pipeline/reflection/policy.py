"""The policy of one step: perturb P^gen, draw an image for every perturbation, and let the ranker score it (paper: eq. 10, 12).

Choices where the paper is silent:
1. The perturbations have standard deviation `sigma` per entry. By default only the attention rows are perturbed: the rows of E^g are
   passed through from a frozen encoder, so noise on them reaches no parameter and only blurs the reward (`all` perturbs every row).
2. All images of a case (reference score aside) start from the same diffusion noise, so that scores differ by the prompt alone.
3. The unperturbed image is drawn in the same batch; it is logged, gives the `center` baseline, and is what validation looks at.
4. All images of a case go through the U-Net in one batch, guidance pairs included; only a batch size below their number cuts them.
   Batches are drawn side by side where there are cores for it.

Shapes: B cases, R perturbations, T rows of P^gen, D token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.models.protocols import ImageEncoder
from pipeline.randomness import make_generator
from pipeline.reflection.config import PerturbedRows, ReflectionConfig
from pipeline.reflection.losses import check_shape
from pipeline.side_by_side import compute_side_by_side

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion, LookPrompt


def choose_rows(prompt_BTD: Tensor, pool_mask_BT: Tensor, rows: PerturbedRows) -> Tensor:
    """Return the bool mask (B, T) of the rows that are perturbed."""
    check_shape("pool mask", pool_mask_BT, prompt_BTD.shape[:2])
    if rows == "attention":
        return pool_mask_BT.bool()
    if rows == "all":
        return torch.ones_like(pool_mask_BT, dtype=torch.bool)
    raise ValueError(f"perturbed_rows is {rows!r}, but it must be one of: attention, all.")


def draw_noise(mask_BT: Tensor, width: int, case_ids: Sequence[str], *, num_noises: int, sigma: float, seed: int, step: int) -> Tensor:
    """Draw eps ~ N(0, sigma^2) -> (B, R, T, D) on the CPU, zero outside of the mask; a case's noise depends on (seed, step, case) only."""
    num_cases, num_rows = mask_BT.shape
    assert num_cases == len(case_ids)
    noise_BRTD = torch.empty(num_cases, num_noises, num_rows, width)
    for index, case_id in enumerate(case_ids):
        generator = make_generator(seed, "perturbation", str(step), case_id)
        torch.randn(num_noises, num_rows, width, generator=generator, out=noise_BRTD[index])
    return noise_BRTD * (sigma * mask_BT.cpu().to(noise_BRTD.dtype))[:, None, :, None]


def build_actions(prompt_BTD: Tensor, noise_BRTD: Tensor) -> Tensor:
    """Stack the unperturbed prompt (index 0) and its perturbations -> (B, 1 + R, T, D), detached."""
    check_shape("prompt", prompt_BTD, (len(noise_BRTD), *noise_BRTD.shape[2:]))
    center_B1TD = prompt_BTD.detach()[:, None]
    return torch.cat([center_B1TD, center_B1TD + noise_BRTD.to(prompt_BTD)], dim=1)


def draw_images(
    diffusion: Diffusion,
    prompt_BKTD: Tensor,
    case_ids: Sequence[str],
    *,
    seed: int,
    steps: int,
    guidance_scale: float,
    batch_size: int,
    look: LookPrompt | None = None,
) -> np.ndarray:
    """Draw K images per case, all from the case's own noise -> uint8 (B, K, H, W, 3); a batch holds whole cases if it can.

    `look` holds the B x K look prompts, case by case.
    """
    num_cases, num_prompts = prompt_BKTD.shape[:2]
    flat_NTD = prompt_BKTD.flatten(0, 1)
    owners = [case_id for case_id in case_ids for _ in range(num_prompts)]
    size = batch_size - batch_size % num_prompts or batch_size

    def draw(start: int) -> np.ndarray:
        chosen = slice(start, start + size)
        generators = [make_generator(seed, "reward", case_id) for case_id in owners[chosen]]
        options = {"generators": generators, "steps": steps, "guidance_scale": guidance_scale}
        return diffusion.draw(flat_NTD[chosen], **options, **({} if look is None else {"look": look.select(chosen)}))

    images = np.concatenate(compute_side_by_side(draw, range(0, len(owners), size)))
    return images.reshape(num_cases, num_prompts, *images.shape[1:])


def estimate_images(
    diffusion: Diffusion, prompt_BTD: Tensor, case_ids: Sequence[str], look: LookPrompt, config: ReflectionConfig, *, seed: int
) -> Tensor:
    """Estimate each case's image in one step from the noise of its reward images -> pixels (B, 3, H, W) in [0, 1], differentiable."""
    generators = [make_generator(seed, "reward", case_id) for case_id in case_ids]
    return diffusion.estimate_pixels(prompt_BTD, generators=generators, guidance_scale=config.reward_guidance, look=look)


def encode_drawings(encoder: ImageEncoder, images: np.ndarray) -> Tensor:
    """Encode uint8 images (B, K, H, W, 3) with the ranker's own image encoder -> (B, K, V)."""
    flat = images.reshape(-1, *images.shape[2:])
    features_NV = encoder.encode_images([Image.fromarray(image) for image in flat])
    return features_NV.reshape(*images.shape[:2], -1)
