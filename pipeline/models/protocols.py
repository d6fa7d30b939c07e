"""The parts of an encoder that code beyond this package asks for; vectors are float32, L2-normalised, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from pipeline.models.text_budget import TextBudget


class ImageEncoder(Protocol):
    """Turns images into vectors."""

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode RGB images -> (B, D)."""
        ...


class ClipModel(ImageEncoder, Protocol):
    """Turns images and texts into vectors of one space."""

    text_budget: TextBudget

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts -> (B, D)."""
        ...
