"""How GLIDE draws: the noise's schedule, the steps of it that are taken, guidance, and diffusers' samplers over those steps.

Legend: T steps of the training, N steps that are taken, B pictures, h, w size.
A sampler numbers the chosen steps from 0; the model is told the number that a step has in the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, DDPMScheduler

S = TypeVar("S", bound=Any)  # a scheduler of diffusers, which has no types
NUM_TIMESTEPS = 1000  # of the training, of both models
MAX_BETA = 0.999
LINEAR_BETAS = (1e-4, 0.02)
FAST27 = (10, 10, 3, 2, 2)  # steps in each fifth of the training, the noisiest last
FAST27_LAST = NUM_TIMESTEPS - 3  # instead of the very last step, which leaves artefacts


def compute_alphas(schedule: str) -> np.ndarray:
    """Return which share of a picture's variance is signal after each step of the training -> (T,), float64."""
    if schedule == "linear":
        return np.cumprod(1 - np.linspace(*LINEAR_BETAS, NUM_TIMESTEPS))
    if schedule == "squaredcos_cap_v2":
        signal = np.cos((np.arange(NUM_TIMESTEPS + 1) / NUM_TIMESTEPS + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.cumprod(1 - np.minimum(1 - signal[1:] / signal[:-1], MAX_BETA))
    raise ValueError(f"schedule is {schedule!r}, but it must be one of: linear, squaredcos_cap_v2.")


def choose_steps(counts: Sequence[int]) -> list[int]:
    """Choose `counts[i]` steps, evenly and with both ends, of the i-th of as many equal parts of the training."""
    part, rest = divmod(NUM_TIMESTEPS, len(counts))
    assert rest == 0, "the parts are equal"
    chosen = []
    for number, count in enumerate(counts):
        if count > part:
            raise ValueError(f"{count} steps are asked for, but the training has {part} to choose them from.")
        stride = (part - 1) / (count - 1) if count > 1 else 1.0
        chosen += [number * part + round(place) for place in accumulate(repeat(stride, count - 1), initial=0.0)]
    return chosen


def choose_upsample_steps(steps: int | Literal["fast27"]) -> list[int]:
    """Choose the upsampler's steps: evenly, or the official 27."""
    return [*choose_steps(FAST27)[:-1], FAST27_LAST] if steps == "fast27" else choose_steps([int(steps)])


def build_ancestral(alpha_T: np.ndarray, steps: Sequence[int]) -> DDPMScheduler:
    """Build the base model's sampler: noise is added at every step but the last, with the variance that the model chose."""
    from diffusers import DDPMScheduler

    return _set_alphas(DDPMScheduler(**_describe(len(steps)), variance_type="learned_range"), alpha_T[list(steps)])


def build_ddim(alpha_T: np.ndarray, steps: Sequence[int]) -> DDIMScheduler:
    """Build the upsampler's sampler: nothing is drawn at random but the noise that it starts from."""
    from diffusers import DDIMScheduler

    return _set_alphas(DDIMScheduler(**_describe(len(steps)), set_alpha_to_one=True), alpha_T[list(steps)])


def _describe(num_steps: int) -> dict[str, object]:
    return {"num_train_timesteps": num_steps, "prediction_type": "epsilon", "clip_sample": True, "timestep_spacing": "leading"}


def _set_alphas(scheduler: S, alpha_N: np.ndarray) -> S:
    """Give a sampler the chosen steps' own schedule, in the double precision that diffusers' would lose."""
    scheduler.alphas_cumprod = torch.from_numpy(alpha_N)
    scheduler.set_timesteps(len(alpha_N))
    return scheduler


def guide(output_CB6hw: Tensor, scale: float) -> Tensor:
    """Go from the noise that is seen without a text to that seen with it, and further; outputs come with the text's first -> (B, 6, h, w).

    The variance is what it is with the text.
    """
    with_text_B6hw, without_B6hw = output_CB6hw.chunk(2)
    noise_B3hw, variance_B3hw = with_text_B6hw.chunk(2, dim=1)
    free_B3hw, _ = without_B6hw.chunk(2, dim=1)
    return torch.cat([free_B3hw + scale * (noise_B3hw - free_B3hw), variance_B3hw], dim=1)


def round_to_8_bits(image_B3hw: Tensor) -> Tensor:
    """Round pixels in [-1, 1] to the 256 levels of a file: what the upsampler was trained to see."""
    return ((image_B3hw + 1) * 127.5).round() / 127.5 - 1
