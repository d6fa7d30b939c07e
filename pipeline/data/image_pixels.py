"""Decoded pixels of every kind to 8-bit RGB: grey, 16 bits, palettes, CMYK, transparency, orientation.

Images are converted a strip at a time, so that only the source and the result are held whole.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.data.image_policy import MIN_SIDE, WHITE

STRIP_PIXELS = 2**18
TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[int, int, int, int]


def convert_to_rgb(image: Image.Image, *, keep_alpha: bool = True) -> Image.Image:
    """Return a new RGB image: transparency laid on white, or, without `keep_alpha`, the colours as if nothing were transparent."""
    if image.mode == "RGB" and not image.has_transparency_data:
        rgb = image.copy()
        rgb.info = {}
        return rgb
    rgb = Image.new("RGB", image.size)
    height = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, height):
        strip = image.crop((0, top, image.width, min(top + height, image.height)))
        rgb.paste(convert_strip(strip, keep_alpha=keep_alpha), (0, top))
    return rgb


def convert_strip(strip: Image.Image, *, keep_alpha: bool) -> Image.Image:
    """Convert a part of an image."""
    if strip.mode.startswith("I") or strip.mode == "F":  # 16-bit grey: convert() would clip instead of scale
        levels = np.asarray(strip, dtype=np.float64)
        if keep_alpha and "transparency" in strip.info:
            levels = np.where(levels == strip.info["transparency"], 65535, levels)
        return Image.fromarray((np.clip(levels, 0, 65535) / 257 + 0.5).astype(np.uint8)).convert("RGB")
    if not strip.has_transparency_data:
        return strip.convert("RGB")
    rgba = strip.convert("RGBA")
    if keep_alpha:
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, (*WHITE, 255)), rgba)
    return rgba.convert("RGB")


def scale_colour_key(image: Image.Image, depth: int) -> None:
    """Bring a PNG's transparent colour, which Pillow leaves in the file's depth, to the 8 bits of the pixels."""
    key = image.info.get("transparency")
    if image.mode == "L" and depth < 8 and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in key)


def clear_outside(rgb: Image.Image, box: Box) -> Image.Image:
    """Make white what lies outside of an animation's first frame, which no frame has drawn yet; a frame too small to be a picture draws nothing."""
    left, top, right, bottom = box[0], box[1], min(box[2], rgb.width), min(box[3], rgb.height)
    if (left, top, right, bottom) == (0, 0, *rgb.size):
        return rgb
    canvas = Image.new("RGB", rgb.size, WHITE)
    if min(right - left, bottom - top) >= MIN_SIDE:
        canvas.paste(rgb.crop((left, top, right, bottom)), (left, top))
    return canvas


def turn(rgb: Image.Image, orientation: int) -> Image.Image:
    """Turn an image upright that a camera has stored with this EXIF orientation."""
    return rgb.transpose(TURN[orientation]) if orientation in TURN else rgb
