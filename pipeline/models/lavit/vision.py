"""LaVIT's eyes: EVA ViT-g/14, which timm has under the names of the official weights, and the picture as it looks at it.

Legend: B pictures, N patches, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from timm.models.eva import Eva
from torch import Tensor

from pipeline.models.lavit.shape import LavitShape

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's


def build_vision(shape: LavitShape) -> Eva:
    """Build an untrained vision tower."""
    return Eva(
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        embed_dim=shape.width,
        depth=shape.vision_layers,
        num_heads=shape.heads,
        mlp_ratio=shape.mlp_width / shape.width,
        num_classes=shape.vision_classes,
        global_pool="token",
    )


def see(vision: Eva, pixel_B3HW: Tensor) -> Tensor:
    """Return what the last block says of every patch, before the final norm and without the class token: (B, N, W)."""
    (patch_BNW,) = vision.forward_intermediates(pixel_B3HW, indices=1, output_fmt="NLC", intermediates_only=True)
    return patch_BNW


def prepare_images(images: Sequence[Image.Image], size: int) -> Tensor:
    """Resize RGB pictures to a square, whatever their shape, and scale them as CLIP does: (B, 3, size, size)."""
    resized = np.stack([np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)) for image in images])
    pixel_B3HW = torch.from_numpy(resized).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (pixel_B3HW - mean) / std
