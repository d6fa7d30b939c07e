"""PMG's balance of accuracy and personalisation: of several images the one that fits target and preference best.

Paper: Shen et al. 2024: z = alpha log d_p + (1 - alpha) log d_t, with d_p and d_t the CLIP similarity of an image with the preference
and the target keywords; its code weighs them 2 to 1 (alpha = 2/3), takes 100 x cosine of CLIP ViT-B/32, and so do we in the paper profile.
Departure: a similarity is at least 1e-6, for the logarithm of none exists.
"""

from __future__ import annotations

import torch

MIN_SIMILARITY = 1e-6


def compute_balance(image_NV: torch.Tensor, preference_V: torch.Tensor, target_V: torch.Tensor, *, alpha: float) -> torch.Tensor:
    """Compute z of N images from L2-normalised CLIP vectors -> (N,)."""
    logs_N2 = (100 * image_NV @ torch.stack([preference_V, target_V], dim=1)).clamp(min=MIN_SIMILARITY).log()
    return alpha * logs_N2[:, 0] + (1 - alpha) * logs_N2[:, 1]
