"""Perceptual distance between images: LPIPS where its package is installed, else the same formula on a small timm backbone.

Paper: the LPIPS columns of Table 1 (Zhang et al. 2018; the paper does not say which trunk).
Departures: 1. in the embedded profile the trunk is EfficientNet-Lite0 and no channel weights are learned, so its numbers are
named `effnet`, never `lpips`. It reads RGB in its own mean and deviation, not in LPIPS's.

Shapes: B images, H x W pixels, C channels, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.cluster.parcels import remember_call
from pipeline.metrics.image import compute_lpips, normalize_channels
from pipeline.models.backbone import load_backbone
from pipeline.models.folders import resolve_model

LPIPS_PREFIX = "lpips/"
LPIPS_TRUNKS = ("alex", "vgg", "squeeze")


@dataclass(frozen=True)
class Features:
    """The L unit-normalised feature maps of B images, each (B, C, H, W)."""

    layers: tuple[Tensor, ...]

    def select(self, index: Sequence[int]) -> Features:
        """Take some of the images, in the order given."""
        rows = list(index)
        return Features(tuple(layer[rows] for layer in self.layers))

    @staticmethod
    def stack(parts: Sequence[Features]) -> Features:
        """Join the images of several batches."""
        return Features(tuple(torch.cat(layers) for layers in zip(*(part.layers for part in parts), strict=True)))


class Perceptual:
    """A frozen trunk that turns images into features once, and features into distances as often as needed."""

    def __init__(
        self,
        name: str,
        trunk: nn.Module,
        extract: Callable[[Tensor], Sequence[Tensor]],
        *,
        channel_weights: Sequence[Tensor] | None,
        device: torch.device,
    ) -> None:
        self.name = name
        self.device = device
        self._trunk = trunk.eval().requires_grad_(False).to(device)
        self._extract = extract
        self._weights = None if channel_weights is None else [w.detach().to(device) for w in channel_weights]

    @torch.inference_mode()
    def compute_features(self, images: np.ndarray) -> Features:
        """Turn uint8 images (B, H, W, 3) into features that stay on the device."""
        pixel_BCHW = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(self.device).float() / 255
        return Features(tuple(normalize_channels(layer.float()) for layer in self._extract(pixel_BCHW)))

    @torch.inference_mode()
    def compute_distances(self, first: Features, second: Features) -> Tensor:
        """Return the distance of B pairs, shape (B,), on the CPU; one side may hold a single image."""
        return compute_lpips(first.layers, second.layers, self._weights).cpu()


@remember_call
def load_perceptual(reference: str | Path, *, device: torch.device | str = "cpu") -> Perceptual:
    """Load `lpips/alex`, `lpips/vgg` or `lpips/squeeze` through the lpips package, or a folder with a timm backbone."""
    if str(reference).startswith(LPIPS_PREFIX):
        return load_lpips(str(reference).removeprefix(LPIPS_PREFIX), device=torch.device(device))
    return load_timm(Path(resolve_model(str(reference))), device=torch.device(device))


def load_lpips(trunk: str, *, device: torch.device) -> Perceptual:
    """Load LPIPS v0.1 with its learned channel weights; torchvision must hold or fetch the trunk's own weights."""
    if trunk not in LPIPS_TRUNKS:
        raise ValueError(f"LPIPS trunk is {trunk!r}, but it must be one of: {', '.join(LPIPS_TRUNKS)}.")
    try:
        import lpips
    except ImportError as error:
        raise ValueError(
            f"models.perceptual is lpips/{trunk}, but the package `lpips` is not installed: `pip install lpips`, "
            "or name a folder with a timm backbone such as embedded/perceptual."
        ) from error
    return wrap_lpips(lpips.LPIPS(net=trunk, version="0.1", verbose=False), device=device)


def wrap_lpips(model: nn.Module, *, device: torch.device) -> Perceptual:
    """Use a model of the lpips package: its input scaling, its trunk and its learned channel weights."""
    model = model.to(device)

    def extract(pixel_BCHW: Tensor) -> Sequence[Tensor]:
        return model.net(model.scaling_layer(pixel_BCHW * 2 - 1))

    weights = [head.model[-1].weight.flatten() for head in model.lins] if model.lpips else None
    return Perceptual("lpips", model, extract, channel_weights=weights, device=device)


def load_timm(folder: Path, *, device: torch.device) -> Perceptual:
    """Load a timm backbone from its folder, without channel weights."""
    backbone = load_backbone(folder, device=device)
    name = "effnet" if "efficientnet" in backbone.architecture else backbone.architecture.split("_")[0]
    return Perceptual(name, backbone.trunk, backbone.extract, channel_weights=None, device=device)
