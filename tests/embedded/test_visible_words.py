"""What is seen in drawings with a known answer. Run: python -m pytest tests/embedded/test_visible_words.py"""

from __future__ import annotations

import numpy as np
import pytest

from embedded.artist_drawings import FOLDER
from embedded.stickers import IMAGE_SIZE
from embedded.training import ROOT
from embedded.visible_words import COLOURS, OUTLINES, SHADINGS, Words, convert_to_oklab, describe_drawing, describe_thing, name_colours, read_thing
from pipeline.data.artmoji import FAMILIES, Pictures, read_things
from pipeline.data.stored_images import fit_square

SAMPLES = 4  # per pixel and axis, which makes edges soft
RED, DARK_RED, YELLOW, BLUE, BROWN = (221, 46, 68), (160, 4, 30), (255, 204, 77), (85, 172, 238), (121, 85, 72)


def measure_radius() -> np.ndarray:
    """Distance to the middle in px, of every sample."""
    axis = (np.arange(IMAGE_SIZE * SAMPLES) + 0.5) / SAMPLES - IMAGE_SIZE / 2
    return np.hypot(axis[:, None], axis[None])


def shrink(fine: np.ndarray) -> np.ndarray:
    """Average the samples of each pixel."""
    mean = fine.reshape(IMAGE_SIZE, SAMPLES, IMAGE_SIZE, SAMPLES, 3).mean(axis=(1, 3))
    return mean.round().astype(np.uint8)


def draw_disc(*layers: tuple[float, tuple[int, int, int]]) -> np.ndarray:
    """Paint discs of a radius and a colour on top of each other, on white."""
    fine = np.full((IMAGE_SIZE * SAMPLES, IMAGE_SIZE * SAMPLES, 3), 255.0)
    for radius, colour in layers:
        fine[measure_radius() < radius] = colour
    return shrink(fine)


def draw_halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> np.ndarray:
    """Paint a disc whose halves have two colours."""
    fine = np.full((IMAGE_SIZE * SAMPLES, IMAGE_SIZE * SAMPLES, 3), 255.0)
    fine[measure_radius() < 26] = right
    fine[:, : IMAGE_SIZE * SAMPLES // 2][measure_radius()[:, : IMAGE_SIZE * SAMPLES // 2] < 26] = left
    return shrink(fine)


def draw_ball(colour: tuple[int, int, int], *, outline: float = 0) -> np.ndarray:
    """Paint a disc that darkens from top to bottom by a third, with a black outline of some px."""
    fine = np.full((IMAGE_SIZE * SAMPLES, IMAGE_SIZE * SAMPLES, 3), 255.0)
    shade = np.linspace(1, 0.67, IMAGE_SIZE * SAMPLES)[:, None, None] * np.array(colour)
    fine = np.where((measure_radius() < 26)[..., None], shade, fine)
    fine[(measure_radius() < 26) & (measure_radius() >= 26 - outline)] = 0
    return shrink(fine)


def draw_bars(*colours: tuple[int, int, int]) -> np.ndarray:
    """Paint bars, thin as lines, that enclose nothing."""
    picture = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), 255, np.uint8)
    for place, colour in enumerate(colours):
        picture[10:54, 8 + 8 * place : 11 + 8 * place] = colour
    return picture


@pytest.mark.parametrize(
    ("picture", "colours", "outline", "shading"),
    [
        (draw_disc((26, RED)), ["red"], "no", "flat"),
        (draw_disc((26, (0, 0, 0)), (23, RED)), ["red"], "a dark", "flat"),
        (draw_disc((26, (0, 0, 0)), (24.3, RED)), ["red"], "a dark", "flat"),
        (draw_disc((26, (35, 31, 32)), (23.5, (255, 255, 255))), ["white"], "a dark", "flat"),
        (draw_disc((26, BROWN), (23, YELLOW)), ["yellow"], "a coloured", "flat"),
        (draw_disc((26, YELLOW), (23, (45, 45, 45))), ["black"], "a coloured", "flat"),
        (draw_disc((26, (0, 0, 0)), (18, RED)), ["red", "black"], "no", "flat"),  # a rim of 8 px is an area
        (draw_disc((26, (45, 45, 45))), ["black"], "no", "flat"),
        (draw_halves(RED, BLUE), ["blue", "red"], "no", "flat"),
        (draw_halves(RED, DARK_RED), ["red"], "no", "two-tone"),
        (draw_halves((208, 207, 206), (155, 155, 154)), ["grey"], "no", "two-tone"),
        (draw_disc((26, DARK_RED), (25, RED), (8, YELLOW)), ["red"], "no", "flat"),  # a spot of a tenth is no main colour
        (draw_ball(BLUE), ["blue"], "no", "gradient"),
        (draw_ball(RED, outline=3), ["red"], "a dark", "gradient"),
        (draw_bars(RED, RED, RED), ["red"], "no", "flat"),
        (draw_bars((0, 0, 0), (0, 0, 0)), ["black"], "no", "flat"),
        (np.full((64, 64, 3), 255, np.uint8), ["white"], "no", "flat"),
        (np.full((64, 64, 3), BLUE, np.uint8), ["blue"], "no", "flat"),
    ],
)
def test_drawings_with_a_known_answer(picture: np.ndarray, colours: list[str], outline: str, shading: str) -> None:
    seen = describe_drawing(picture)
    assert (sorted(seen.colours), seen.outline, seen.shading) == (sorted(colours), outline, shading)


def test_the_larger_area_is_named_first_and_a_mirror_changes_nothing() -> None:
    picture = draw_disc((26, YELLOW), (16, BLUE))
    assert describe_drawing(picture).colours == ("yellow", "blue")
    assert describe_drawing(picture[:, ::-1]) == describe_drawing(picture)


@pytest.mark.parametrize(
    ("word", "codes"),
    {
        "red": "dd2e44 ef5350 f8312f 84281c a52a2a",
        "orange": "ff5722 ee7f32 f4900c ffac33 ff8a65",
        "yellow": "fcc21b f1b31c fdd835 f6e39c",
        "green": "cddc39 827717 00a79d b1cc33 5c9e31",
        "blue": "0000ff 2962ff 1a237e 006ca2 00bcd4 92d3f5 b8e3e8",
        "purple": "880e4f 3b1f47 433b6b 5e35b1 bd7ac3",
        "pink": "e57373 ffccb0 d81b60 f92f60 f2b8d4 d84e88",
        "brown": "795548 a57939 b08860 c1694f e0a870 6d4c41 5d3f32",
        "beige": "f7deb0 ffd89c c8bda6",
        "grey": "cdc4d6 d0cfce 5a5a5a 6f90a5 597b91 78909c",
        "black": "000000 253237 3f3f3f 2f2f2f",
        "white": "ffffff e0e0e0 e6dfec",
    }.items(),
)
def test_colours_have_the_names_that_people_give_them(word: str, codes: str) -> None:
    rgb = np.array([list(bytes.fromhex(code)) for code in codes.split()])
    assert [COLOURS[index] for index in name_colours(convert_to_oklab(rgb))] == [word] * len(rgb)


def test_oklab_has_its_published_values() -> None:
    rgb = np.array([[255, 255, 255], [255, 0, 0], [0, 0, 255]])
    published = [[1, 0, 0], [0.62796, 0.22486, 0.12585], [0.45201, -0.03246, -0.31153]]
    np.testing.assert_allclose(convert_to_oklab(rgb), published, atol=1e-4)  # published to five digits


@pytest.mark.parametrize(
    ("name", "family", "text"),
    [  # looked at
        ("rat", "openmoji", "a grey rat with a dark outline and flat shading"),
        ("apple", "openmoji", "a red apple with a dark outline and two-tone shading"),
        ("apple", "fluent-3d", "a pink and red apple with no outline and gradient shading"),
        ("apple", "fluent-emoji-flat", "a red apple with no outline and flat shading"),
        ("cat", "noto-v1", "an orange cat with no outline and flat shading"),
        ("cat", "openmoji", "an orange cat with a dark outline and flat shading"),
        ("new moon", "noto-v1", "a black new moon with a coloured outline and flat shading"),
        ("new moon", "twemoji", "a grey new moon with no outline and two-tone shading"),
        ("new moon", "fluent-3d", "a purple new moon with no outline and gradient shading"),
        ("palette", "openmoji", "a brown palette with a dark outline and flat shading"),
    ],
)
def test_real_drawings(name: str, family: str, text: str) -> None:
    thing = next(thing for thing in read_things(ROOT / FOLDER) if thing.name == name)
    picture = Pictures(ROOT / FOLDER).draw(thing, family)
    assert describe_thing(name, describe_drawing(np.asarray(fit_square(picture, IMAGE_SIZE).convert("RGB")))) == text


def test_captions_can_be_read_back_also_when_names_hold_words_for_colours() -> None:
    for words in (Words(("orange",), "no", "flat"), Words(("red", "white"), "a dark", "two-tone")):
        for name in ("orange", "white flower", "mouse from the side", "cloud with rain"):
            assert read_thing(describe_thing(name, words)) == (name, words)
    assert describe_thing("orange", Words(("orange",), "no", "flat")) == "an orange orange with no outline and flat shading"
    assert read_thing("a neon sticker of a hedgehog") is None


def test_no_word_names_a_family() -> None:
    words = {part for phrase in (*COLOURS, *OUTLINES, *SHADINGS) for part in phrase.split()}
    assert not words & {part for family in FAMILIES for part in family.split("-") if part != "flat"}  # the shading's plain name
