"""The pictures of a page as data URIs: candidates all of one size and format, so that nothing but the drawing tells one method from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

from pipeline.data.image_policy import WHITE, ImageError
from pipeline.data.images import decode_drawing
from pipeline.report.thumbnails import encode_thumbnail
from pipeline.study.material import Material
from pipeline.study.questions import CARD, DRAWN, Sheet, Source

SIDES = (320, 256, 192, 128, 96)  # px, tried one after the other until the page is small enough
HISTORY_SHARE = 0.5  # side of a history picture beside that of a candidate
MEGABYTE = 2**20


@dataclass(frozen=True)
class Pictures:
    """Data URIs by picture id, and the side of the candidates in px."""

    uris: dict[str, str]
    side: int

    def count_bytes(self) -> int:
        """Return how much of a page they take."""
        return sum(map(len, self.uris.values()))


def build_pictures(sheet: Sheet, material: Material, *, max_bytes: int) -> Pictures:
    """Encode the pictures of a sheet at the largest of SIDES that keeps the page below `max_bytes`; ValueError if none does, or one is broken."""
    decoded = {source: open_picture(source, material) for source in set(sheet.sources.values()) if source.kind != CARD}
    smallest = min(min(image.size) for source, image in decoded.items() if source.kind == DRAWN)
    sides = [side for side in SIDES if side < smallest]
    for side in [min(smallest, SIDES[0]), *sides]:
        pictures = encode_pictures(sheet, decoded, side=side)
        if pictures.count_bytes() <= max_bytes:
            return pictures
    raise ValueError(
        f"the pictures of group {sheet.group} take {pictures.count_bytes() / MEGABYTE:.1f} MB even at {side} px, but a page may take "
        f"{max_bytes / MEGABYTE:.1f}; ask about fewer cases (--cases), or raise --max-megabytes."
    )


def encode_pictures(sheet: Sheet, decoded: Mapping[Source, Image.Image], *, side: int) -> Pictures:
    """Encode every picture of a sheet: what is ranked at `side`, the history smaller; equal pictures are encoded once."""
    ranked = {picture for question in sheet.questions for picture in question.candidates}
    alone = {question.context[0] for question in sheet.questions if len(question.context) == 1}
    known: dict[tuple[Source, int], str] = {}
    uris = {}
    for picture, source in sheet.sources.items():
        own = side if picture in ranked or picture in alone else max(1, round(side * HISTORY_SHARE)) if side > SIDES[-1] else side
        if (source, own) not in known:
            image = draw_card(source.name, own) if source.kind == CARD else decoded[source]
            known[source, own] = encode_thumbnail(ImageOps.pad(image, (own, own), Image.Resampling.LANCZOS, color=WHITE), own)
        uris[picture] = known[source, own]
    return Pictures(uris, side)


def open_picture(source: Source, material: Material) -> Image.Image:
    """Decode a picture; ValueError names the one that is broken."""
    data = material.drawn[source.name, source.method] if source.kind == DRAWN else material.items[source.name]
    try:
        return decode_drawing(data)
    except ImageError as error:
        what = f"the picture of case {source.name} by {source.method}" if source.kind == DRAWN else f"the picture of item {source.name}"
        raise ValueError(f"{what} cannot be shown ({error}); `make verify` finds damaged files.") from error


def draw_card(text: str, side: int) -> Image.Image:
    """Draw a card with a letter on it."""
    image = Image.new("RGB", (side, side), WHITE)
    font = ImageFont.load_default(size=side * 0.6)
    ImageDraw.Draw(image).text((side / 2, side / 2), text, fill=(40, 40, 48), font=font, anchor="mm")
    return image
