"""CSV files for people: no cell runs as a formula, and we read the texts back. Run: python -m pytest tests/pipeline/test_spreadsheets.py"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline.spreadsheets import neutralise_text, read_csv, restore_text, write_csv

FORMULAS = ["=1+1", "=HYPERLINK(A1)", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "-", "--x", "-a"]
ODD = ["'=x", "''=x", "'tis", "'", "it's", "a\rb", "a\r\nb", 'a "b", c', " =x", "ñ新", ""]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_begins_like_a_formula_begins_with_an_apostrophe(text: str) -> None:
    assert neutralise_text(text) == (text if text == "-" else f"'{text}")


@pytest.mark.parametrize("text", ["-5", "+0.25", "-1.5e-05", "-.5", "-12%", "-inf", "5", "a=b", "x-1", "http://h/-a"])
def test_numbers_and_other_texts_stay_as_they_are(text: str) -> None:
    assert neutralise_text(text) == text


def test_every_text_is_read_back_as_it_was(tmp_path: Path) -> None:
    rows = [{"item_id": text, "n": str(n)} for n, text in enumerate([*FORMULAS, *ODD])]
    write_csv(tmp_path / "m.csv", rows, ["item_id", "n"])
    assert read_csv(tmp_path / "m.csv", ["n"]) == rows
    with (tmp_path / "m.csv").open(encoding="utf-8", newline="") as file:  # as a spreadsheet reads it
        cells = [cell for row in csv.reader(file) for cell in row]
    assert {cell for cell in cells if cell[:1] in set("=+@\t\r\n-") and cell} == {"-"}
    assert restore_text("'tis") == "'tis"


def test_numbers_are_written_as_before(tmp_path: Path) -> None:
    write_csv(tmp_path / "c.csv", [{"a": -1, "b": -0.123456789}, {"a": None, "b": True}], ["a", "b"])
    assert (tmp_path / "c.csv").read_bytes() == b"a,b\n-1,-0.123457\n,True\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"item_id\na\n", "has no column `url`"),
        (b"", "has no column `item_id`"),
        (b"item_id,url\na\n", "line 2: the row has not as many cells as the header"),
        (b"item_id,url\na,b,c\n", "line 2: the row has not as many cells as the header"),
        (b"item_id,url\n\xff,b\n", "is no readable CSV file"),
        (b'item_id,url\n"a,b\n', "is no readable CSV file"),
        (b"item_id,url\na," + b"x" * 200_000 + b"\n", "is no readable CSV file"),
    ],
)
def test_a_file_that_is_none_of_ours_gets_one_sentence(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "m.csv").write_bytes(data)
    with pytest.raises(ValueError, match=words) as error:
        read_csv(tmp_path / "m.csv", ["item_id", "url"])
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "m.csv"))


def test_a_file_that_a_spreadsheet_has_saved_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("\ufeffitem_id,url\r\n'=x,http://h/ñ\r\n".encode())
    assert read_csv(tmp_path / "m.csv", ["item_id", "url"]) == [{"item_id": "=x", "url": "http://h/ñ"}]
