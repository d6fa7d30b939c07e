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
