"""Pictures found by the names that people write. Run: python -m pytest tests/pipeline/data/test_picture_folder.py"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from pipeline.data.picture_folder import PictureFolder, PictureNameError, Place, refuse_outside_links
from pipeline.data.problems import DataError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))


def make_pictures(folder: Path, *names: str) -> PictureFolder:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return PictureFolder(folder)


@pytest.mark.parametrize("suffix", [".WEBP", ".GIF", ".BMP", ".Jpg", ".jfif", ".jpe", ".PNG", ".JPEG", ".jpg", ".webp"])
def test_a_picture_is_found_by_the_items_id_whatever_the_case_of_its_ending(tmp_path: Path, suffix: str) -> None:
    pictures = make_pictures(tmp_path / "images", f"001{suffix}", f"Hat{suffix}", f"sub/a.b{suffix}")
    assert pictures.locate("001") == Place(tmp_path / "images" / f"001{suffix}")
    assert pictures.locate("hat") == Place(tmp_path / "images" / f"Hat{suffix}")
    assert pictures.locate("sub/a.b") == Place(tmp_path / "images" / f"sub/a.b{suffix}")
    assert pictures.locate(f"001{suffix}") == Place(tmp_path / "images" / f"001{suffix}")  # ids that are file names


@pytest.mark.parametrize(
    "name",
    [
        "001.png", "images/001.png",
        r"images\001.png", "./images/001.png", "./001.png", "IMAGES/001.PNG", "001.PNG", " 001.png ", "images/001.png ",
        "images%2F001.png", "%30%301.png", r"C:\pics\images\001.png", "/data/shop/images/001.png",
        "../images/001.png", "data/raw/folder/images/001.png",
        "https://shop.example/images/001.png?w=200#top", "file:///data/images/001.png", "&#48;&#48;1.png",
    ],
)  # fmt: skip
def test_a_picture_is_found_by_a_name_with_its_folder_or_in_another_case(tmp_path: Path, name: str) -> None:
    assert make_pictures(tmp_path / "images", "001.png", "002.png").locate("x", name) == Place(tmp_path / "images" / "001.png")


@pytest.mark.parametrize(("written", "stored"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED), ("CAF%C3%89.PNG", DECOMPOSED)])
def test_letters_are_the_same_composed_or_not(tmp_path: Path, written: str, stored: str) -> None:
    pictures = make_pictures(tmp_path / "images", stored)
    assert pictures.locate("x", written) == Place(tmp_path / "images" / stored)
    assert pictures.locate(written.removesuffix(".png")) == Place(tmp_path / "images" / stored)


def test_a_file_of_exactly_that_name_goes_before_any_reading_of_it(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "images", "a%20b.png", "a b.png", "A.png", "a.png", "images/a.png")
    for name in ("a%20b.png", "A.png", "a.png", "images/a.png"):
        assert pictures.locate("x", name) == Place(tmp_path / "images" / name)
    assert pictures.locate("A") == Place(tmp_path / "images" / "A.png")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("001.jpg", "001.png"),
        ("1.png", "001.png"),
        ("red-wool hat.png", "red_wool_hat.png"),
        ("b.png", "sub/b.png"),
        ("gone.png", ""),
        ("https://shop.example/img/001.png?w=2", "001.png"),
        ("001.png|002.png", "001.png"),
        ('["001.png"]', "001.png"),
        ("['1.png', 'b.png']", "001.png"),
    ],
)
def test_a_name_that_comes_near_is_suggested(tmp_path: Path, name: str, near: str) -> None:
    pictures = make_pictures(tmp_path / "images", "001.png", "red_wool_hat.png", "sub/b.png")
    assert pictures.locate("x", name) == Place(tmp_path / "images" / name, near)


def test_a_picture_in_two_formats_is_a_question_and_not_a_guess(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "images", "a.png", "a.jpg", "b.HEIC", "b.jpg", "c.heic")
    with pytest.raises(PictureNameError, match=r"^'a' may be any of a\.jpg, a\.png in .*images; keep one of them, or name its file in full\.$"):
        pictures.locate("a")
    assert pictures.locate("a", "a.png") == Place(tmp_path / "images" / "a.png")
    assert pictures.locate("b") == Place(tmp_path / "images" / "b.jpg")  # the other one cannot be read
    assert pictures.locate("c") == Place(tmp_path / "images" / "c.heic")  # so that its format is named


@pytest.mark.parametrize(
    "name", ["._001.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints/001.png", "@eaDir/001.png", "__MACOSX/001.png"]
)
def test_companions_of_other_systems_are_no_pictures(tmp_path: Path, name: str) -> None:
    pictures = make_pictures(tmp_path / "images", name, "001.jpg")
    assert pictures.locate("001") == Place(tmp_path / "images" / "001.jpg")
    assert pictures.locate("x", "1.png") == Place(tmp_path / "images" / "1.png", "001.jpg")


@pytest.mark.parametrize(
    ("name", "guess"),
    [("../c.jpg", "."), ("/etc/passwd", "."), ("x" * 300, "."), ("a\0", "; did you mean a.JPG?"), ("/home/me/pics/a.jpg", "; did you mean a.JPG?")],
)
def test_a_name_never_leads_outside_of_the_folder(tmp_path: Path, name: str, guess: str) -> None:
    (tmp_path / "c.jpg").touch()
    with pytest.raises(PictureNameError, match=rf"is no file name inside of .*images{re.escape(guess)}$"):
        make_pictures(tmp_path / "images", "a.JPG").locate("x", name)


def test_links_are_followed_inside_of_the_raw_folder_and_refused_outside(tmp_path: Path) -> None:
    raw, other = tmp_path / "raw", tmp_path / "disk"
    make_pictures(other, "pics/1.png", "2.png", "3.png")
    make_pictures(raw, "originals/4.png")
    (raw / "images").mkdir()
    (raw / "images" / "4.png").symlink_to(raw / "originals" / "4.png")
    (raw / "images" / "linked").symlink_to("../originals")
    refuse_outside_links(raw, [raw / "images" / "4.png", raw / "images" / "linked" / "4.png"])
    for name in ("2.png", "3.png"):
        (raw / "images" / name).symlink_to(other / name)
    (raw / "images" / "pics").symlink_to(other / "pics")
    with pytest.raises(DataError) as caught:
        refuse_outside_links(raw, [raw / "images" / name for name in ("2.png", "pics/1.png", "3.png", "4.png")])
    folder, files = caught.value.problems
    assert folder.startswith(
        f"{raw / 'images/pics'} is a link to a folder outside of {raw}, and a change behind such a link goes unnoticed; make {raw}"
    )
    assert files == (
        f"{raw / 'images/2.png'}, {raw / 'images/3.png'}: 2 pictures are links to files outside of {raw}, which are not read; "
        "put the files themselves there."
    )


def test_the_raw_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    make_pictures(tmp_path / "disk", "images/1.png")
    (tmp_path / "raw").symlink_to(tmp_path / "disk")
    refuse_outside_links(tmp_path / "raw", [tmp_path / "raw" / "images" / "1.png"])
