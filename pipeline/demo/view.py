"""From an answer to the HTML that the page shows; every text of the data is escaped, every picture decoded and encoded again."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from pipeline.data.images import ImageError, decode_drawing
from pipeline.demo.studio import Answer
from pipeline.report.thumbnails import LARGE_SIDE, SMALL_SIDE, encode_thumbnail

TEMPLATES = Path(__file__).parent / "templates"
TITLES = {"sd": "SD", "ragar": "RAGAR"}


@cache
def load_template(name: str) -> Template:
    """Return one of the demo's templates."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"small": lambda image: encode_picture(image, SMALL_SIDE), "large": lambda image: encode_picture(image, LARGE_SIDE)}
    return environment.get_template(name)


def encode_picture(image: bytes, side: int) -> str:
    """Return a picture as a data URI; empty where it cannot be decoded."""
    try:
        return encode_thumbnail(decode_drawing(image), side)
    except ImageError:
        return ""


def show_answer(answer: Answer) -> str:
    """Write what was asked for, drawn and read."""
    return load_template("answer.html").render(answer=answer, titles=TITLES)


def show_refusal(reason: str) -> str:
    """Write why nothing was drawn."""
    return load_template("refusal.html").render(reason=reason)


def read_style() -> str:
    """Return the page's CSS."""
    return (TEMPLATES / "demo.css").read_text(encoding="utf-8")
