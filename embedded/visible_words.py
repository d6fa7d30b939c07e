"""What can be seen in one drawing on white, in plain words: main colours, outline, shading; by rules on its pixels alone.

Nothing here knows who drew a picture or what of: the same pixels give the same words. Colours are compared in OKLab, where equal
distances look about equally far apart (lightness from 0 to 1). All thresholds were chosen by looking at drawings of 64 px
beside their words, not by what tells artists apart; how much the words tell all the same is measured by `embedded.words_probe`.

1. *Drawn* is whatever white paper does not reach from the picture's border.
2. An *outline* is a line of one colour, at most 4 px wide, along most of the border of what is drawn, which differs clearly from what it encloses.
3. *Colours* are one or two of twelve words, by the areas of even colour apart from the outline.
4. *Shading* is `gradient` where most even areas change little by little, `two-tone` where an area lies beside a darker or
   lighter one of the same hue, else `flat`.
"""

import re
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from embedded.stickers import choose_article

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "beige", "grey", "black", "white")
OUTLINES = ("a dark", "a coloured", "no")
SHADINGS = ("flat", "two-tone", "gradient")

PAPER = 250  # all channels of a pixel of white paper are at least this
SECOND_COLOUR = 0.25  # of the counted area
PAPER_WEIGHT = 0.5  # of an enclosed pixel as white as paper, which may be a hole
EVEN_STEP = 0.04  # largest difference to a neighbour inside an area
SMOOTH_STEP = 0.0015  # a smaller one is rounding
SMOOTH_SHARE = 0.4  # of the even pixels of a drawing with gradients
DARK_TOLERANCE, COLOUR_TOLERANCE = 0.08, 0.03  # differences within a line that is dark, or is not
LINE_CONTRAST = 0.12  # between a line and what it encloses
LINE_COVER = 0.5  # of the border
LINE_DARK = 0.45  # lightness
TONE_SHARE = 0.04  # of what is drawn: the smaller tone
TONE_DISTANCE = 0.03, 0.3  # between two tones of a hue
TONE_HUE = 30.0  # degrees


@dataclass(frozen=True)
class Words:
    """What is seen: one or two of `COLOURS`, the larger area's first, one of `OUTLINES` and one of `SHADINGS`."""

    colours: tuple[str, ...]
    outline: str
    shading: str


def describe_drawing(rgb_HW3: np.ndarray) -> Words:
    """Describe a uint8 picture; a blank one is white, flat and has no outline."""
    drawing = Drawing(rgb_HW3)
    if not drawing.drawn.any():
        return Words(("white",), "no", "flat")
    outline, line = find_outline(drawing)
    return Words(find_colours(drawing, line), outline, find_shading(drawing))


class Drawing:
    """A picture's colours in OKLab and its areas, all (height, width)."""

    def __init__(self, rgb_HW3: np.ndarray) -> None:
        self.rgb = rgb_HW3
        self.lab = convert_to_oklab(rgb_HW3)
        self.paper = (rgb_HW3 >= PAPER).all(axis=-1)
        labels, _ = ndimage.label(np.pad(self.paper, 1, constant_values=True))
        self.drawn = (labels != labels[0, 0])[1:-1, 1:-1]
        self.depth = ndimage.distance_transform_edt(np.pad(self.drawn, 1))[
            1:-1, 1:-1
        ]  # px to the paper around, which lies outside of the picture too
        step = compute_steps(self.lab)
        self.even = (self.depth >= 2) & (step < EVEN_STEP)
        self.smooth = ndimage.binary_opening(self.even & (step > SMOOTH_STEP), np.ones((3, 3)))


def convert_to_oklab(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB from 0 to 255 to OKLab (Ottosson 2020)."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [[0.4122214708, 0.2119034982, 0.0883024619], [0.5363325363, 0.6806995451, 0.2817188376], [0.0514459929, 0.1073969566, 0.6299787005]]
    )
    return np.cbrt(cones) @ np.array(
        [[0.2104542553, 1.9779984951, 0.0259040371], [0.7936177850, -2.4285922050, 0.7827717662], [-0.0040720468, 0.4505937099, -0.8086757660]]
    )


def compute_steps(lab_HWC: np.ndarray) -> np.ndarray:
    """Give each pixel's largest difference to its four neighbours."""
    steps = np.zeros(lab_HWC.shape[:2])
    for axis in (0, 1):
        step = np.linalg.norm(np.diff(lab_HWC, axis=axis), axis=-1)
        before, after = ([(0, 0), (0, 0)] for _ in range(2))
        before[axis], after[axis] = (1, 0), (0, 1)
        steps = np.maximum(steps, np.maximum(np.pad(step, before), np.pad(step, after)))
    return steps


def find_outline(drawing: Drawing) -> tuple[str, np.ndarray]:
    """Name the outline, and give the pixels of its line."""
    colour = find_border_colour(drawing)
    dark = colour[0] < LINE_DARK
    distance = np.linalg.norm(drawing.lab - colour, axis=-1)
    like_line = drawing.drawn & (distance < (DARK_TOLERANCE if dark else COLOUR_TOLERANCE))
    wide = ndimage.binary_dilation(ndimage.binary_opening(like_line, np.ones((5, 5))), np.ones((3, 3)))
    line = like_line & ~wide
    enclosed = drawing.drawn & ~ndimage.binary_dilation(like_line) & (drawing.depth > 2)
    nothing = np.zeros_like(line)
    if not line.any() or not enclosed.any():
        return "no", nothing
    to_line, to_enclosed = (ndimage.distance_transform_edt(~mask) for mask in (line, enclosed))
    border = drawing.drawn & (drawing.depth < 1.5)
    covered = border & (to_line < 2.3) & (to_enclosed < 6)  # a leg or an antenna is a line, but no outline
    beside = enclosed & (to_line < 3)
    apart = beside & (distance > LINE_CONTRAST)
    if covered.sum() < LINE_COVER * border.sum() or apart.sum() < 0.7 * beside.sum():
        return "no", nothing
    return ("a dark" if dark else "a coloured"), line


def find_border_colour(drawing: Drawing) -> np.ndarray:
    """Give the most common colour along the border, one pixel in: the first is mixed with the paper."""
    ring = drawing.drawn & (drawing.depth < 2.9)
    inner = ring & (drawing.depth > 1.2)
    colours = drawing.lab[inner if inner.any() else ring]
    alike = np.linalg.norm(colours[:, None] - colours[None], axis=-1) < COLOUR_TOLERANCE
    return colours[alike.sum(axis=1).argmax()]


def find_colours(drawing: Drawing, line: np.ndarray) -> tuple[str, ...]:
    """Name the one or two main colours of the even areas, or of everything drawn where lines are all there is."""
    filled = drawing.drawn & ~ndimage.binary_dilation(line)
    even = filled & drawing.even
    counted = next(area for area in (even, filled, drawing.drawn) if area.sum() >= 0.1 * drawing.drawn.sum())
    weights = np.where(drawing.paper, PAPER_WEIGHT, 1.0)[counted]
    shares = np.bincount(name_colours(drawing.lab[counted]), weights, minlength=len(COLOURS)) / weights.sum()
    first, second = np.argsort(-shares, kind="stable")[:2]
    return (COLOURS[first], COLOURS[second]) if shares[second] >= SECOND_COLOUR else (COLOURS[first],)


def name_colours(lab_NC: np.ndarray) -> np.ndarray:
    """Give the index in `COLOURS` of each colour, by lightness, chroma and hue (degrees): the first rule that holds."""
    light, chroma = lab_NC[:, 0], np.hypot(lab_NC[:, 1], lab_NC[:, 2])
    hue = np.degrees(np.arctan2(lab_NC[:, 2], lab_NC[:, 1])) % 360
    reddish, orangish, yellowish = (hue >= 18) & (hue < 34), (hue >= 34) & (hue < 75), (hue >= 75) & (hue < 110)
    pinkish = (hue < 18) | (hue >= 330)
    rules = (
        ("white", (light >= 0.885) & (chroma < 0.02)),
        ("black", (light < 0.385) & (chroma < 0.04)),
        ("grey", (chroma < 0.03) | ((chroma < 0.055) & (light < 0.8) & (hue >= 180) & (hue < 270))),
        ("pink", (pinkish & (light >= 0.5)) | (reddish & (light >= 0.67) & (chroma < 0.16)) | ((light >= 0.8) & (chroma < 0.09) & (hue < 60))),
        ("beige", (light >= 0.7) & (chroma < 0.09) & (hue >= 60) & (hue < 92)),
        ("brown", (reddish & (light < 0.62) & (chroma < 0.09)) | (orangish & (((light < 0.8) & (chroma < 0.125)) | (light < 0.6)))),
        ("brown", yellowish & (light < 0.74) & (hue < 100)),
        ("red", reddish | (hue < 18)),
        ("orange", orangish),
        ("yellow", yellowish & (light >= 0.7)),
        ("green", (hue >= 75) & (hue < 195)),
        ("blue", (hue >= 195) & (hue < 275)),
    )
    return np.select([holds for _, holds in rules], [COLOURS.index(word) for word, _ in rules], COLOURS.index("purple"))


def find_shading(drawing: Drawing) -> str:
    """Name how areas are shaded."""
    if drawing.smooth.sum() >= SMOOTH_SHARE * max(1, drawing.even.sum()):
        return "gradient"
    return "two-tone" if has_tones(drawing) else "flat"


def has_tones(drawing: Drawing) -> bool:
    """Say whether two areas of one hue lie side by side, each of a single colour, one darker than the other."""
    colours, numbers, counts = np.unique(drawing.rgb[drawing.even], axis=0, return_inverse=True, return_counts=True)
    large = np.flatnonzero(counts >= TONE_SHARE * drawing.drawn.sum())
    lab = convert_to_oklab(colours)
    areas = np.zeros((len(large), *drawing.even.shape), bool)
    areas[:, drawing.even] = numbers.ravel() == large[:, None]
    grown = [ndimage.binary_dilation(area, iterations=2) for area in areas]  # an edge is two or three pixels wide
    pairs = ((i, j) for i in range(len(large)) for j in range(i) if are_tones(lab[large[i]], lab[large[j]]))
    return any((grown[i] & grown[j]).sum() >= 6 for i, j in pairs)


def are_tones(first: np.ndarray, second: np.ndarray) -> bool:
    """Say whether two colours differ in lightness, a little or clearly, and hardly in hue."""
    low, high = TONE_DISTANCE
    if abs(first[0] - second[0]) < low or np.linalg.norm(first - second) > high:
        return False
    chromas = np.hypot(first[1], first[2]), np.hypot(second[1], second[2])
    if min(chromas) < 0.03:  # greys have no hue
        return abs(chromas[0] - chromas[1]) < 0.04
    turn = np.degrees(np.arctan2(first[2], first[1]) - np.arctan2(second[2], second[1]))
    return abs((turn + 180) % 360 - 180) < TONE_HUE


def describe_thing(name: str, words: Words) -> str:
    """Say what a drawing shows, in the one canonical way: the captioner's language."""
    colours = " and ".join(words.colours)
    return f"{choose_article(colours)} {colours} {name} with {words.outline} outline and {words.shading} shading"


CAPTION = re.compile(
    rf"an? (?P<first>{'|'.join(COLOURS)})(?: and (?P<second>{'|'.join(COLOURS)}))? (?P<name>.+)"
    rf" with (?P<outline>{'|'.join(OUTLINES)}) outline and (?P<shading>{'|'.join(SHADINGS)}) shading"
)


def read_thing(caption: str) -> tuple[str, Words] | None:
    """Take a caption apart as `describe_thing` puts it together; None if it is none."""
    found = CAPTION.fullmatch(caption)
    if found is None:
        return None
    colours = tuple(word for word in (found["first"], found["second"]) if word)
    return found["name"], Words(colours, found["outline"], found["shading"])


def compare_words(said: Words | None, seen: Words) -> dict[str, bool]:
    """Say which words are right: the main colour, the outline, the shading."""
    if said is None:
        return dict.fromkeys(("colour", "outline", "shading"), False)
    return {"colour": said.colours[0] == seen.colours[0], "outline": said.outline == seen.outline, "shading": said.shading == seen.shading}
