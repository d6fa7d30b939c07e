"""Image metrics of Table 1 as pure functions: SSIM, the LPIPS formula, CLIP scores, and their means over a history.

Paper: section "Evaluation Metrics"; SSIM is Wang et al. 2004, LPIPS is Zhang et al. 2018. All but the rank metrics are printed x100.
Departures: 1. cosine scores are not clamped at 0 (some CLIPScore code does), so that they stay linear in the cosine.
Shapes: B pairs, C channels, H x W pixels, H' x W' windows, D embedding width, M history items, L layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.metrics.protocol import SSIM_WINDOW

SSIM_SIGMA = 1.5
SSIM_K = (0.01, 0.03)
PERCENT = 100.0


@dataclass(frozen=True)
class Moments:
    """Local mean and variance of images under SSIM's window, (B, C, H', W') each; computed once an image, used in many pairs."""

    image_BCHW: Tensor
    mean_BCHW: Tensor
    variance_BCHW: Tensor

    def select(self, index: Sequence[int]) -> "Moments":
        """Take some of the images, in the order given."""
        rows = list(index)
        return Moments(self.image_BCHW[rows], self.mean_BCHW[rows], self.variance_BCHW[rows])


def build_gaussian_window(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return SSIM's one-dimensional Gaussian window, which sums to 1."""
    offset = torch.arange(SSIM_WINDOW, dtype=dtype, device=device) - (SSIM_WINDOW - 1) / 2
    weight = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    return weight / weight.sum()


def filter_gaussian(image_BCHW: Tensor) -> Tensor:
    """Average over every whole window (no padding): (B, C, H, W) -> (B, C, H - 10, W - 10)."""
    height, width = image_BCHW.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, got {height} x {width}")
    window = build_gaussian_window(image_BCHW.dtype, image_BCHW.device)
    # As two banded matrix products: on CPU several times faster than a depthwise convolution.
    rows = build_band(window, height)
    columns = build_band(window, width)
    return rows @ image_BCHW @ columns.T


def build_band(window: Tensor, length: int) -> Tensor:
    """Return the (length - 10, length) matrix that applies the window at every whole position."""
    band = torch.zeros(length - SSIM_WINDOW + 1, length, dtype=window.dtype, device=window.device)
    for offset, weight in enumerate(window):
        band.diagonal(offset).fill_(weight)
    return band


def compute_moments(image_BCHW: Tensor) -> Moments:
    """Filter a batch of images once, for use in any number of pairs."""
    mean = filter_gaussian(image_BCHW)
    return Moments(image_BCHW, mean, filter_gaussian(image_BCHW**2) - mean**2)


def compute_ssim_from_moments(first: Moments, second: Moments, *, data_range: float) -> Tensor:
    """Return SSIM of B pairs, shape (B,), as the mean over channels and windows; one side may hold a single image."""
    c1, c2 = ((k * data_range) ** 2 for k in SSIM_K)
    mean_product = first.mean_BCHW * second.mean_BCHW
    covariance = filter_gaussian(first.image_BCHW * second.image_BCHW) - mean_product
    numerator = (2 * mean_product + c1) * (2 * covariance + c2)
    luminance = first.mean_BCHW**2 + second.mean_BCHW**2 + c1
    contrast = first.variance_BCHW + second.variance_BCHW + c2
    return (numerator / (luminance * contrast)).mean(dim=(1, 2, 3))


def compute_ssim(first_BCHW: Tensor, second_BCHW: Tensor, *, data_range: float) -> Tensor:
    """Return SSIM of B image pairs, shape (B,), in [-1, 1]; `data_range` is the span of pixel values (1 or 255)."""
    if first_BCHW.shape != second_BCHW.shape:
        raise ValueError(f"SSIM compares images of one size, got {tuple(first_BCHW.shape)} and {tuple(second_BCHW.shape)}")
    return compute_ssim_from_moments(compute_moments(first_BCHW), compute_moments(second_BCHW), data_range=data_range)


def normalize_channels(feature_BCHW: Tensor, *, eps: float = 1e-10) -> Tensor:
    """Scale the channel vector of every position to length 1 (LPIPS, eq. 1)."""
    return feature_BCHW / (feature_BCHW.pow(2).sum(dim=1, keepdim=True).sqrt() + eps)


def compute_lpips(first: Sequence[Tensor], second: Sequence[Tensor], channel_weights: Sequence[Tensor] | None = None) -> Tensor:
    """Return the LPIPS distance of B pairs, shape (B,), from L unit-normalised (B, C, H, W) maps per side.

    Squared differences, weighted and summed over channels (all weights 1 where none are learned), averaged over positions and
    summed over layers. One side may hold a single image.
    """
    if not len(first) == len(second) == len(channel_weights or first):
        raise ValueError(f"LPIPS needs as many layers on both sides, got {len(first)} and {len(second)}")
    total = None
    for layer, (a_BCHW, b_BCHW) in enumerate(zip(first, second, strict=True)):
        squared = (a_BCHW.float() - b_BCHW.float()).pow(2)
        if channel_weights is not None:
            squared = squared * channel_weights[layer].view(1, -1, 1, 1)
        part = squared.sum(dim=1).mean(dim=(1, 2))
        total = part if total is None else total + part
    assert total is not None, "LPIPS of zero layers"
    return total


def compute_cosine_score(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Return 100 x cosine of B pairs, shape (B,), not clamped at 0."""
    return PERCENT * F.cosine_similarity(first_BD.float(), second_BD.float(), dim=-1)


def compute_history_mean(score_M: Tensor) -> float | None:
    """Average the scores of one image against its M history items; None for an empty history."""
    return float(score_M.double().mean()) if score_M.numel() else None
