"""A frozen timm backbone: its feature maps for perceptual distances, and their pooled vector, by which the rankers see images.

A backbone is a folder with `config.json` (architecture, mean, std) and `model.safetensors` (timm's names of the trunk).
Choice (the paper's example of Enc^vis is a ViT, which `load_visual` takes as well): a picture's vector holds the mean of every
stage's map, each scaled to length 1. Early stages tell how a picture is drawn and late ones what it shows; a preference is about both.
Shapes: B images, H x W pixels, C channels, L stages, D = the sum of the stages' channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pipeline.json_files import read_json
from pipeline.models.references import explain_load_error

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENCODER_SIZE = 128  # px that a picture is resized to before it is pooled: a 64 px one leaves the last stage 2 x 2 places
PASS_SIZE = 16  # pictures a forward pass: the first stages' maps of more would neither fit the processor's cache nor the allocator's


class Backbone:
    """A trunk with the scaling of its input."""

    def __init__(self, architecture: str, trunk: nn.Module, *, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.architecture = architecture
        self.trunk = trunk.eval().requires_grad_(False).to(device)
        self.device = device
        self._mean_1C11 = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std_1C11 = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def extract(self, pixel_BCHW: Tensor) -> Sequence[Tensor]:
        """Compute the L feature maps of images in [0, 1], each (B, C, H, W)."""
        return self.trunk((pixel_BCHW - self._mean_1C11) / self._std_1C11)


class BackboneEncoder:
    """Images to pooled feature maps: the interface of `pipeline.models.encoders.VisualEncoder`."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self.dim = len(self.encode_pixels(torch.zeros(1, 3, ENCODER_SIZE, ENCODER_SIZE))[0])

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode RGB images as (B, D) float32 unit vectors on the CPU; they are resized to a square."""
        if not images:
            return torch.empty(0, self.dim)
        size = (ENCODER_SIZE, ENCODER_SIZE)
        pixels = np.stack([np.asarray(image.resize(size, Image.Resampling.BILINEAR)) for image in images])
        return self.encode_pixels(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)

    @torch.inference_mode()
    def encode_pixels(self, pixel_BCHW: Tensor) -> Tensor:
        """Encode images in [0, 1]."""
        return torch.cat([self._pool(part_BCHW.to(self._backbone.device)).cpu() for part_BCHW in pixel_BCHW.split(PASS_SIZE)])

    def see_pixels(self, pixel_BCHW: Tensor) -> Tensor:
        """Encode images in [0, 1] of any size as `encode_images` does, on the device, differentiable."""
        return self._pool(resize_pixels(pixel_BCHW.to(self._backbone.device), ENCODER_SIZE))

    def _pool(self, pixel_BCHW: Tensor) -> Tensor:
        maps = self._backbone.extract(pixel_BCHW)
        return F.normalize(torch.cat([F.normalize(layer.float().mean(dim=(2, 3)), dim=1) for layer in maps], dim=1), dim=1)


def resize_pixels(pixel_BCHW: Tensor, side: int) -> Tensor:
    """Resize images to a square, bilinear, differentiable."""
    return F.interpolate(pixel_BCHW, size=(side, side), mode="bilinear", antialias=True)


def load_backbone(folder: Path, *, device: torch.device) -> Backbone:
    """Load a backbone from its folder; ValueError if a file is missing or does not fit."""
    import timm
    from safetensors.torch import load_file

    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise ValueError(f"The backbone in {folder} has no {path.name}.")
    with explain_load_error("backbone", str(folder)):
        config = read_json(config_path)
        trunk = timm.create_model(config["architecture"], features_only=True, pretrained=False)
        weights = load_file(weights_path)
    try:
        trunk.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"The weights in {weights_path} do not fit {config['architecture']}: {error}") from error
    scaling = {"mean": config.get("mean", IMAGENET_MEAN), "std": config.get("std", IMAGENET_STD)}
    return Backbone(config["architecture"], trunk, **scaling, device=device)


def is_backbone(reference: str) -> bool:
    """Say whether a reference is the folder of a timm backbone."""
    path = Path(reference) / "config.json"
    return path.is_file() and "architecture" in read_json(path)
