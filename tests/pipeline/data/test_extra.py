"""Texts beside one's own images, as anybody saves them. Run: python -m pytest tests/pipeline/data/test_extra.py"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from pipeline.data.extra import MAX_TEXT_BYTES, add_extra_items, name_item, read_text
from pipeline.data.items import ItemRows
from pipeline.data.problems import DataError
from tests.broken_items import draw_halves


def read(folder: Path, content: bytes, *, name: str = "red_mug-1.png") -> str:
    (folder / name).with_suffix(".txt").write_bytes(content)
    return read_text(folder / name)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Café crème brûlée", "utf-8"),
        ("Café crème brûlée", "utf-8-sig"),
        ("Café crème brûlée", "utf-16"),
        ("Café crème brûlée", "utf-16-be"),
        ("Café crème brûlée", "utf-32"),
        ("Café crème brûlée", "cp1252"),
        ("Größe – 5 €", "cp1252"),
        ("红色连衣裙", "gb18030"),
        ("赤いドレス、花柄のワンピース", "cp932"),
        ("紅色連身裙", "big5"),
    ],
)
def test_a_text_of_any_encoding_is_decoded(text: str, encoding: str, tmp_path: Path) -> None:
    assert read(tmp_path, f" {text}\r\n".encode(encoding)) == text


def test_a_text_whose_encoding_cannot_be_told_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"red_mug-1\.txt: the file is not UTF-8, and its encoding cannot be told; it may say .*; save it as UTF-8"):
        read(tmp_path, "红色".encode("gb18030"))


@pytest.mark.parametrize("content", [b"", b" \n", b"N/A\n", b"\xef\xbb\xbf", b"null"])
def test_a_text_that_says_nothing_is_empty_so_that_the_caption_stands_in(content: bytes, tmp_path: Path) -> None:
    assert read_text(tmp_path / "red_mug-1.png") == "red mug 1"
    assert read(tmp_path, content) == ""


def test_a_long_text_is_cut_between_characters(tmp_path: Path) -> None:
    assert read(tmp_path, ("a" + "é" * MAX_TEXT_BYTES).encode()) == "a" + "é" * ((MAX_TEXT_BYTES - 1) // 2)


def test_decomposed_letters_in_names_and_texts_are_composed(tmp_path: Path) -> None:
    path = tmp_path / unicodedata.normalize("NFD", "café.png")
    draw_halves("red").save(path)
    items = ItemRows()
    assert add_extra_items(tmp_path, items, image_size=16, image_format="png") == (["extra-café.png"], [])
    assert items["extra-café.png"]["text"] == "café"
    assert read(tmp_path, unicodedata.normalize("NFD", "Größe").encode()) == "Größe"


def test_a_name_that_is_no_text_has_an_id_that_can_be_written(tmp_path: Path) -> None:
    assert name_item(Path("caf\udce9.png")) == "extra-caf\\udce9.png"


@pytest.mark.parametrize("name", ["hat.TXT", "HAT.txt", "Hat.Txt"])
def test_a_text_is_found_in_any_case(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("a blue hat")
    assert read_text(tmp_path / "hat.png") == "a blue hat"


def test_a_text_is_found_with_composed_and_decomposed_letters(tmp_path: Path) -> None:
    (tmp_path / f"{unicodedata.normalize('NFD', 'café')}.txt").write_text("a hat")
    assert read_text(tmp_path / "café.png") == "a hat"


def test_bytes_of_an_old_encoding_in_a_utf8_text_are_read_as_they_were_meant(tmp_path: Path) -> None:
    (tmp_path / "hat.txt").write_bytes("Größe M, Müll ".encode() + b"\x93quoted\x94")
    assert read_text(tmp_path / "hat.png") == "Größe M, Müll “quoted”"


def test_control_characters_are_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "hat.txt").write_bytes(b"a \x1b[31mhat\0\0\x1a")
    assert read_text(tmp_path / "hat.png") == "a [31mhat"


@pytest.mark.parametrize(
    ("content", "kind"), [(rb"{\rtf1\ansi a hat}", "an RTF document"), (b"PK\3\4" + b"\0" * 40, "a ZIP archive"), (b"<html>a hat", "a page of HTML")]
)
def test_what_is_no_plain_text_is_refused_with_its_kind(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "hat.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"hat\.txt is {kind}.*, but it must be a plain text; save it as one, in the encoding UTF-8\."):
        read_text(tmp_path / "hat.png")


def test_a_picture_of_another_format_is_missing_with_its_kind_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "hat.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    _, missing = add_extra_items(tmp_path, ItemRows(), image_size=32, image_format="png")
    assert [(row.item_id, row.reason) for row in missing] == [
        ("extra-hat.heic", "The file is a HEIC image, but it must be an image of a known format (PNG, JPEG, GIF, WEBP, BMP).")
    ]
