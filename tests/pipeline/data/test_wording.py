"""Which names say something. Run: python -m pytest tests/pipeline/data/test_wording.py"""

from __future__ import annotations

import unicodedata

import pytest

from pipeline.data.openmoji import read_concepts
from pipeline.data.wording import drop_codes, drop_long_codes, keep_text, read_file_name, says_something

SILENT = (
    "IMG_0001", "img-0001", "IMG_E1234", "IMG_0001 (1)", "IMG_0001 copy", "DSC01234", "DSCN0042", "_DSC0042", "P1010001", "GOPR0001", "MVI_0001",
    "IMG-20240131-WA0007", "PXL_20240131_123456789", "20240131_123456", "2024-01-31 12.00.00", "FB_IMG_1612345678901", "received_123456",
    "mmexport1612345678", "WhatsApp Image 2024-01-31 at 12.00.00", "photo_2024-01-31_12-00-00", "Screenshot 2024-01-31 at 10.00.00",
    "Screenshot_20240101-123456_Chrome", "Bildschirmfoto 2024-01-31 um 10.00.00", "Capture d’écran 2024-01-31", "Снимок экрана 2024-01-31",
    "微信图片_20240131", "图片1", "image", "image(12)", "Image 7", "Foto 3", "Untitled-1", "unnamed (1)", "download (3)",
    "Unbenannt-1", "Sans titre", "Без названия", "無題", "未命名", "제목 없음", "画像1", "写真 12", "Изображение 5", "Категория 5", "Kategorie 7",
    "Copy of IMG_1234", "Kopie von IMG_1234", "_MG_1234", "PXL_20240301_101112345.PORTRAIT", "Imagen de WhatsApp 2024-01-31 a las 10.00",
    "Zrzut ekranu 2024-01-01", "CamScanner 01-03-2024", "ComfyUI_00001_", "ChatGPT Image Mar 1, 2024", "shutterstock_123456", "product_1234_main",
    "001", "0001-0002", "12.5", "#1234",
    "d41d8cd98f00b204e9800998ecf8427e", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "0a1b2c3d", "550e8400-e29b-41d4-a716-446655440000",
    "deadbeef-cafe-babe-face-feedfacedead", "B07XJ8C8F5", "dQw4w9WgXcQ", "xkjqzwpl", "SKU-10023", "item_12", "C 1004",
    "a1b2c3", "TB1abc.XXaXX9dXXXX", " _- ",
)  # fmt: skip
TELLING = {
    "red_wool-hat": "red wool hat",
    "IMG_1234_red_hat": "IMG 1234 red hat",
    "hat-01": "hat 01",
    "shirt2": "shirt2",
    "ox": "ox",
    "a": "a",
    "TV": "TV",
    "RedHat": "RedHat",
    "iPhone12": "iPhone12",
    "连衣裙1": "连衣裙1",
    "шапка": "шапка",
    "été": "été",
    unicodedata.normalize("NFD", "café_cats"): "café cats",
    "picture": "picture",  # of a picture
    "юбка без рукавов 2": "юбка без рукавов 2",
    "back to the future 2": "back to the future 2",
    "hero": "hero",
    "写真集": "写真集",
    "screenshot_of_a_game": "screenshot of a game",
}


@pytest.mark.parametrize("name", SILENT)
def test_a_name_of_a_camera_a_messenger_or_a_machine_says_nothing(name: str) -> None:
    assert read_file_name(name) == ""
    assert keep_text(f"{name}.JPG") == ""


@pytest.mark.parametrize("name", TELLING)
def test_a_name_with_words_is_a_text(name: str) -> None:
    assert read_file_name(name) == TELLING[name]
    assert keep_text(name) == name


def test_a_title_stays_as_it_is_written() -> None:
    for title in ('Mug "No. 7", blue, 0.3 l', "Heat, The 3", "秋季新款,连衣裙, 修身 第3款"):
        assert keep_text(f" {title} ") == title
        assert drop_long_codes(title) == title


def test_every_concept_of_the_default_data_set_says_something() -> None:
    concepts = read_concepts()
    assert [concept.name for concept in concepts if not says_something(concept.name) or drop_long_codes(concept.name) != concept.name] == []
    assert [concept.group for concept in concepts if drop_codes(concept.group) != concept.group] == []


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        ("cups, plates", "cups, plates"),
        ("Clothing > 1004 > Dresses", "Clothing, Dresses"),
        ("d41d8cd98f00b204e9800998ecf8427e", ""),
        ("550e8400-e29b-41d4-a716-446655440000", ""),
        ("50011123", ""),
        ("12;13", ""),
        ("C_1004", ""),
        ("category 5", ""),
        ("服装", "服装"),
        ("", ""),
    ],
)
def test_a_category_loses_its_codes_and_nothing_else(category: str, expected: str) -> None:
    assert drop_codes(category) == expected


def test_a_title_loses_hashes_and_numbers_of_articles_where_it_is_embedded() -> None:
    assert drop_long_codes("Red dress 4006381333931 (d41d8cd98f00b204e9800998ecf8427e) size 38, facade") == "Red dress size 38, facade"
