"""What methods share whose generator is another one than `models.diffusion`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.generation.context import Drawing, GenerationContext
from pipeline.models.diffusion import NOT_FINITE, NotFiniteError
from pipeline.rows import Rejection


def check_start(context: GenerationContext, method: str) -> None:
    """Raise ValueError if pictures are to be drawn over the reference's, which these generators cannot."""
    if context.config.start != "noise":
        raise ValueError(
            f"generation.start is {context.config.start!r}, but {method} draws from noise alone; set it to noise, or comparison.{method} to false."
        )


def reject_unfinite(draw: Callable[[], np.ndarray]) -> list[Drawing]:
    """Draw (B, H, W, 3), and reject those images that are not finite."""
    try:
        return list(draw())
    except NotFiniteError as error:
        reason = f"The drawn image is not finite; {NOT_FINITE}"
        return [Rejection(reason) if bad else image for image, bad in zip(error.images_BHWC, error.bad_B, strict=True)]
