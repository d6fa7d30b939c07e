"""The image policy: what is done with every picture from outside, and why. The limits and the checks stand here; `images.py` applies them.

- Format: PNG, JPEG, GIF, WebP or BMP, by the file's bytes and not by its name. Pillow's other decoders are many, old and rarely needed.
- Metadata: taken out before a decoder sees the file (`image_files.py`), broken or not: the pixels do not depend on them.
- Damage: pixel data with a wrong checksum, a missing part or a broken stream are refused, and a JPEG whose last rows a
  decoder had to make up; what stands behind the pixels is not looked at, and a JPEG may lack its end mark.
- Orientation: applied as browsers do, from EXIF's tag alone, whatever the other tags are like; a value outside of 1 to 8 counts as none.
- Colours: 8 bits a channel; 16 bits are scaled, CMYK is inverted as Adobe writes it, colour profiles are ignored.
- Transparency: laid on white. Where that shows nothing (alpha 0 everywhere), alpha was not meant: the colours count as if they were opaque.
- Animation: the first frame that is not blank, among MAX_FRAMES of at most MAX_FRAME_PIXELS together; the frames behind it are not decoded.
- Size: each side has at least MIN_SIDE px (tracking pixels are no pictures), both multiplied at most MAX_PIXELS; one is at most MAX_ASPECT times the
  other.
- Memory: what decoding will hold is estimated from the header, and at most MAX_DECODED_BYTES. Of an animation beyond it only the first frame counts.
- Blankness: a picture of practically one colour (`is_blank`) is refused, for a caption of nothing is an invention.

A picture that breaks the policy raises ImageError with one sentence for a person: what is wrong, and which limit applies.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from PIL import Image

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
MAX_BYTES = 32 * 1024 * 1024  # of the file; a 50 megapixel JPEG has about 20 MiB
MAX_PIXELS = 50_000_000  # width x height; the largest common phone picture has 48 million
MAX_DECODED_BYTES = 500_000_000  # what decoding may hold at its peak, besides the file: 10 bytes for each of MAX_PIXELS, e.g. a progressive JPEG
MAX_ASPECT = 50  # longer side over shorter side; beyond that a square 224 px view shows nothing
MIN_SIDE = 8  # px; the smallest pictures that people make are icons of 16 px, and tracking pixels have 1 or 2
MAX_FRAMES = 100  # of an animation, looked at for one that is not blank
MAX_FRAME_PIXELS = 4 * MAX_PIXELS  # of all these frames together: seconds, not minutes
BLANK_LEVELS = 8  # of 255: JPEG's noise on a plain surface stays below
BLANK_SHARE = 1 / 1000  # of the pixels: a speck; the emptiest sticker of the default data set has 58 in 1,000
BLANK_PIXELS = 8  # a speck in a small picture
WHITE = (255, 255, 255)

STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # a pixel of Pillow's modes; all others 4
RESULT_BYTES = 4  # a pixel of the RGB image that everything becomes
WEBP_BYTES = 10  # a pixel, besides: Pillow decodes all WebP files as animations, with two canvases
COEFFICIENT_BYTES = 2  # a pixel and channel of a progressive JPEG, whose coefficients are held until its last scan is read
FRAME_BYTES = 24  # a pixel of an animation behind its first frame: canvases of before and after, and the result


class ImageError(ValueError):
    """An image that breaks the policy; the message is one sentence."""


def check_size(width: int, height: int) -> None:
    """Refuse no pixels, too many, and a shape that shows nothing; by the header."""
    if width < 1 or height < 1:
        raise ImageError(f"The image has no pixels ({width} x {height}).")
    if width * height > MAX_PIXELS:
        raise ImageError(f"The image has {width} x {height} pixels, more than the allowed {MAX_PIXELS:,}.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"The image has {width} x {height} pixels; one side is more than {MAX_ASPECT} times the other.")


def check_memory(image: Image.Image) -> None:
    """Refuse an opened image whose pixels would need too much memory."""
    if (needed := estimate_bytes(image)) > MAX_DECODED_BYTES:
        raise ImageError(
            f"The image has {image.width} x {image.height} pixels ({image.format}, {image.mode}), which take {needed:,} bytes to decode, "
            f"more than the allowed {MAX_DECODED_BYTES:,}."
        )


def estimate_bytes(image: Image.Image) -> int:
    """Return the most bytes that decoding an opened image and turning it into RGB holds at once, besides the file."""
    held, besides = STORED_BYTES.get(image.mode, 4), RESULT_BYTES
    if image.format == "WEBP":
        besides = WEBP_BYTES + RESULT_BYTES
    elif "progressive" in image.info:
        besides = max(RESULT_BYTES, COEFFICIENT_BYTES * len(image.getbands()))  # which are gone when the result is made
    return image.width * image.height * (held + besides)


def check_content(image: Image.Image) -> None:
    """Refuse an RGB image that is too small to be a picture, or blank."""
    if min(image.size) < MIN_SIDE:
        raise ImageError(f"The image has {image.width} x {image.height} pixels, too small for a picture: each side must have at least {MIN_SIDE}.")
    if is_blank(image):
        raise ImageError("The image is blank: practically all of its pixels have one colour.")


def is_blank(image: Image.Image) -> bool:
    """Say whether an RGB image is of one colour: in every channel nearly all pixels are within BLANK_LEVELS of the channel's median.

    Nearly all: fewer than BLANK_SHARE of the pixels differ, or fewer than BLANK_PIXELS.
    """
    histogram, total = image.histogram(), image.width * image.height
    allowed = max(BLANK_SHARE * total, BLANK_PIXELS)
    for start in range(0, len(histogram), 256):
        up_to = list(accumulate(histogram[start : start + 256]))  # pixels of at most this level
        median = bisect_left(up_to, total / 2)
        lowest, highest = median - BLANK_LEVELS, min(median + BLANK_LEVELS, 255)
        if total - (up_to[highest] - (up_to[lowest - 1] if lowest > 0 else 0)) >= allowed:
            return False
    return True
