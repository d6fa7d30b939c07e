"""Turn image bytes of any origin into small pictures inside the page; what cannot be read becomes a quiet placeholder.

Only pixels that this process decoded and encoded again reach the page, never bytes from the data.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from pipeline.data.images import ImageError, decode_drawing

SMALL_SIDE = 192  # px, history and contact sheet: twice what is shown, since they open large
LARGE_SIDE = 512  # px, reference, truth and drawn images, as large as Stable Diffusion draws them
LOSSLESS_SIDE = 96  # px, up to which pictures are stored without loss
QUALITY = 86


@dataclass(frozen=True)
class Picture:
    """A picture with its tooltip; without a data URI a placeholder, whose tooltip also says why."""

    title: str
    uri: str | None = None


def encode_thumbnail(image: Image.Image, side: int) -> str:
    """Return the image as a data URI, its longer side at most `side` px; small ones are never enlarged."""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    lossless = max(image.size) <= LOSSLESS_SIDE
    image.save(buffer, format="WEBP", lossless=lossless, quality=100 if lossless else QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def build_picture(data: bytes | None, *, side: int, title: str, missing: str = "There is no image.") -> Picture:
    """Decode and shrink an image; what is wrong with it, or `missing` where there is none, goes into the tooltip."""
    try:
        if data is None:
            raise ImageError(missing)
        return Picture(title, encode_thumbnail(decode_drawing(data), side))
    except ImageError as error:
        return Picture(f"{title} {error}" if title else str(error))
