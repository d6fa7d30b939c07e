"""Is a drawn picture technically sound? Blank, cut off by its frame, or practically a copy of what the user has already seen.

Shapes: H x W pixels, N history items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.data.image_policy import is_blank
from pipeline.data.images import ImageError, decode_drawing

THUMBNAIL = 16  # px, side of the square that pictures are compared in
SAME = 5.0  # of 255, root mean square between thumbnails: the nearest two items of StyleMoji's 1,800 are 6.7 apart
BORDER_SHARE = 1 / 32  # of a side, how wide the frame is that is looked at
BORDER_LEVELS = 32  # of 255: a pixel of the frame that differs more from the frame's median colour belongs to something
CUT_OFF = 0.25  # share of the frame that a thing may take beyond what it takes in the pictures that the user knows


@dataclass(frozen=True)
class Look:
    """What can be measured of a picture without a model."""

    is_blank: bool
    border: float  # share of its frame that something takes
    thumbnail: np.ndarray  # float32 (THUMBNAIL, THUMBNAIL, 3)


def look_at(image: Image.Image) -> Look:
    """Measure a picture."""
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return Look(is_blank(image), measure_border(np.asarray(image)), np.asarray(small, dtype=np.float32))


def look_at_all(encoded: Mapping[str, bytes]) -> dict[str, Look]:
    """Measure encoded pictures; those that cannot be decoded are left out."""
    looks = {}
    for key, data in encoded.items():
        try:
            looks[key] = look_at(decode_drawing(data))
        except ImageError:
            continue
    return looks


def measure_border(pixels_HW3: np.ndarray) -> float:
    """Return the share of the frame that differs from the frame's own median colour."""
    height, width = pixels_HW3.shape[:2]
    thick = max(1, round(min(height, width) * BORDER_SHARE))
    is_border = np.ones((height, width), dtype=bool)
    is_border[thick : height - thick, thick : width - thick] = False
    border = pixels_HW3[is_border].astype(np.int16)
    return float((np.abs(border - np.median(border, axis=0)).max(axis=1) > BORDER_LEVELS).mean())


def compute_distance(first: Look, second: Look) -> float:
    """Return how far two pictures are apart: the root mean square of their thumbnails, 0 to 255."""
    return float(np.sqrt(((first.thumbnail - second.thumbnail) ** 2).mean()))


def find_same(look: Look, others: Mapping[str, Look], keys: Sequence[str]) -> str | None:
    """Return the first of the nearest pictures if it is practically the same, else None."""
    distances = [(compute_distance(look, others[key]), key) for key in dict.fromkeys(keys) if key in others]
    nearest = min(distances, default=(np.inf, ""))
    return nearest[1] if nearest[0] < SAME else None


def find_fault(look: Look, known: Mapping[str, Look], history: Sequence[str], reference_id: str) -> str | None:
    """Say in a sentence why a picture is not sound, None if it is; `known` are the looks of items."""
    if look.is_blank:
        return "it is blank"
    usual = max((known[key].border for key in (*history, reference_id) if key in known), default=1.0)
    if look.border > usual + CUT_OFF:
        return f"it is cut off: something takes {look.border:.0%} of its frame, and at most {usual:.0%} in the pictures that the user knows"
    same = find_same(look, known, [key for key in history if key != reference_id])
    return f"it is practically {same}, which the user has already seen" if same else None
