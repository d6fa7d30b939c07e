"""Tables as people save them: the same values whatever wrote them, or one sentence. Run: python -m pytest tests/pipeline/data/test_tables.py"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path

import pytest

from pipeline.data.problems import DataError, Problems
from pipeline.data.tables import find_table, read_rows

PLAIN = 'item_id,text,category\n001,"Mug ""No. 1"", blue",Küche\n002,"two\nlines",cups\n'
ROWS = [
    {"item_id": "001", "text": 'Mug "No. 1", blue', "category": "Küche"},
    {"item_id": "002", "text": "two\nlines", "category": "cups"},
]


def read(path: Path, content: bytes | str, *, required: tuple[str, ...] = ("item_id",), optional: tuple[str, ...] = ("text", "category")):
    """Return (rows, problems) of a file with this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    problems = Problems()
    return list(read_rows(path, required, optional, problems)), problems


def get_values(path: Path, content: bytes | str) -> list[dict[str, str]]:
    rows, problems = read(path, content)
    assert problems.found == []
    return [row for _, row in rows]


def separate(sign: str) -> str:
    """Return PLAIN with another separator."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ROWS[0], delimiter=sign, lineterminator="\n")
    writer.writeheader()
    writer.writerows(ROWS)
    return buffer.getvalue()


TABS, SEMICOLONS = separate("\t"), separate(";")


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").replace("two\r\n", "two\n").encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),  # without a byte order mark
        PLAIN.encode("utf-32"),
        PLAIN.encode("cp1252"),
        PLAIN.encode("latin-1"),
        TABS.encode("utf-16"),  # Excel's "Unicode text"
        SEMICOLONS.encode("cp1252"),  # Excel's CSV in Europe
        b"sep=;\n" + SEMICOLONS.encode(),
        ("sep=\t\r\n" + TABS).encode("utf-16"),
        PLAIN.replace('""', '\\"').encode(),  # as databases escape
        PLAIN.replace('""', "#").replace('"', "'").replace("#", '"').encode(),
        PLAIN.replace("item_id,text,category", "\n\nItem ID, TEXT ,Category,,").replace("Küche", "Küche,,").replace("cups", "cups,,").encode(),
        (PLAIN + ",,\n,,\n , ,\n").encode(),
        unicodedata.normalize("NFD", PLAIN).encode(),
        PLAIN.replace("item_id", "\u200bitem_id").encode(),
        PLAIN.replace("001", " 001\u00a0").encode(),
        PLAIN.replace(",", ", ").replace("1,  ", "1, ").replace('"",  blue', '"", blue').encode(),
    ],
)
def test_every_way_of_saving_gives_the_same_values(content: bytes, tmp_path: Path) -> None:
    assert get_values(tmp_path / "items.csv", content) == ROWS


def test_lines_may_end_with_cr_alone(tmp_path: Path) -> None:
    assert get_values(tmp_path / "items.csv", "item_id,text\r001,a\r002,b\r") == [{"item_id": "001", "text": "a"}, {"item_id": "002", "text": "b"}]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("红色连衣裙,秋季新款", "gb18030"),
        ("赤いワンピース", "cp932"),
        ("красное платье с цветами, синий кувшин и белая чашка для чая", "koi8_r"),
        ("빨간 드레스와 파란 머그컵, 하얀 접시 그리고 노란 꽃무늬 원피스", "cp949"),
        ("żółta gęś", "cp1250"),
    ],
)
def test_another_encoding_is_read_and_noted_with_an_example(text: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    rows, problems = read(path, f'item_id,text\n001,"{text}"\n'.encode(encoding))
    assert rows == [(2, {"item_id": "001", "text": text})]
    word = text.split(",")[0].split()[0]
    assert problems.notes == [f"{path}: the file is not UTF-8 and is read as {encoding}, e.g. '{word}'; if that is wrong, save it as UTF-8."]


def test_an_encoding_that_cannot_be_told_is_refused_with_what_it_may_say(tmp_path: Path) -> None:
    sentence = r"items\.csv: the file is not UTF-8, and its encoding cannot be told; it may say .*'Ёлка' \(cp1251\).*save it as UTF-8"
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / "items.csv", "item_id,text\n1,Ёлка\n".encode("cp1251"))


def test_a_few_bad_bytes_in_a_utf8_file_are_named_with_their_line(tmp_path: Path) -> None:
    content = "item_id,text\n1,Café\n2,Größe\n".encode() + b"3,Caf\xe9\n"
    _, problems = read(tmp_path / "items.csv", content)
    assert problems.found == [f"{tmp_path}/items.csv, line 4: byte 6 (0xe9) is not UTF-8; save the whole file in the encoding UTF-8."]


def test_lines_are_counted_through_quoted_line_breaks_and_bad_lines(tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "items.csv", 'sep=,\nitem_id,text\n1,"a\nb\nc"\n2,\0\n3,d\n')
    assert [line for line, _ in rows] == [3, 7]
    assert problems.found[0].startswith(f"{tmp_path}/items.csv, line 6: the line holds NUL bytes")


@pytest.mark.parametrize("word", ["NA", "n/a", "NaN", "null", "NULL", "None", "-", "\\N", "#N/A", "<NA>", " ", '""', "–"])
def test_words_for_missing_are_empty_in_every_column(word: str, tmp_path: Path) -> None:
    assert get_values(tmp_path / "items.csv", f"item_id,text,category\n1,{word},{word}\n{word},x,nano\n") == [
        {"item_id": "1", "text": "", "category": ""},
        {"item_id": "", "text": "x", "category": "nano"},
    ]


def test_columns_that_nobody_asked_for_do_not_matter_but_a_wanted_one_there_twice_does(tmp_path: Path) -> None:
    rows, _ = read(tmp_path / "items.csv", "item_id,note,note,,\n1,x,y,,\n")
    assert rows == [(2, {"item_id": "1"})]
    with pytest.raises(DataError, match="line 1: the column 'text' is there twice; keep one of them"):
        read(tmp_path / "items.csv", "item_id,text,text\n1,x,y\n")
    with pytest.raises(DataError, match="line 1: the column 'item_id' may be 'Item ID' or 'itemid'; keep one"):
        read(tmp_path / "items.csv", "Item ID,itemid\n1,2\n")


def test_the_exact_name_wins_over_another_spelling(tmp_path: Path) -> None:
    assert get_values(tmp_path / "items.csv", "Item ID,item_id\nx,1\n") == [{"item_id": "1"}]


def test_a_missing_column_is_answered_with_the_close_one(tmp_path: Path) -> None:
    sentence = r"the column `item_id` is missing; needed are `item_id`, separated by semicolons, but .* did you mean 'item_ids'\?"
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / "items.csv", "item_ids;text\n1;x\n")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("3,x,y,z", "the row has 4 comma-separated fields, but the header has 3; a text that holds a comma must be in quotation marks"),
        ("3,x", "the row has 2 comma-separated fields, but the header has 3"),
        ('3,"x,y', "from here on the file is no valid CSV"),
    ],
)
def test_a_row_of_another_form_is_named(row: str, sentence: str, tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "items.csv", f"item_id,text,category\n1,a,b\n2,a,b\n{row}\n")
    assert [values["item_id"] for _, values in rows] == ["1", "2"]
    assert len(problems.found) == 1
    assert problems.found[0].startswith(f"{tmp_path}/items.csv, line 4: {sentence}")


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.csv_files.MAX_LINE_BYTES", 1_000)
    with pytest.raises(DataError, match="line 2: the line is longer than the allowed 1,000 characters"):
        read(tmp_path / "items.csv", "item_id,text\n" + "x" * 5_000)


def test_tables_are_found_in_any_case_and_other_formats_are_answered(tmp_path: Path) -> None:
    assert find_table(tmp_path, "items") is None
    (tmp_path / "items.xlsx").touch()
    with pytest.raises(DataError, match=r"holds 'items\.xlsx', but the table must be a CSV or Parquet file: save it as items\.csv"):
        find_table(tmp_path, "items")
    (tmp_path / "Items.CSV").touch()
    assert find_table(tmp_path, "items") == tmp_path / "Items.CSV"
    (tmp_path / "items.parquet").touch()
    with pytest.raises(DataError, match=r"holds both Items\.CSV and items\.parquet"):
        find_table(tmp_path, "items")


FOREIGN = [
    "#NV",
    "#N/D",
    "#¡REF!",
    "#ЗНАЧ!",
    "k.a.",
    "н/д",
    "无",
    "なし",
    "없음",
    "(vacío)",
    "[null]",
    "pd.NA",
    "Unknown",
    "\u200b",
    "\ufeffN/A",
    '"="""""',
]


@pytest.mark.parametrize("word", [*FOREIGN, "\u200b", "\ufeffN/A", '"="""""'])
def test_words_for_missing_are_known_in_other_languages(word: str, tmp_path: Path) -> None:
    assert get_values(tmp_path / "items.csv", f"item_id,text\n1,{word}\n") == [{"item_id": "1", "text": ""}]


@pytest.mark.parametrize("written", ["\u200b007\ufeff", "\u200e007", '="007"', '"=""007"""', "\u3000007\u00a0"])
def test_what_is_around_an_id_and_cannot_be_seen_is_no_part_of_it(written: str, tmp_path: Path) -> None:
    assert get_values(tmp_path / "items.csv", f"item_id\n{written}\n") == [{"item_id": "007"}]


def test_a_cell_of_a_column_that_nobody_asked_for_may_be_long(tmp_path: Path) -> None:
    assert get_values(tmp_path / "items.csv", f"item_id,html,text\n1,{'x' * 1_000_000},a\n2,,b\n") == [
        {"item_id": "1", "text": "a"},
        {"item_id": "2", "text": "b"},
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_that_is_there_again_is_no_row(mark: str, tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "items.csv", f"item_id,text\n1,a\n{mark}item_id,text\n2,b\n")
    assert rows == [(2, {"item_id": "1", "text": "a"}), (4, {"item_id": "2", "text": "b"})]
    assert problems.found == []
    assert problems.notes == [f"{tmp_path}/items.csv: the header is there again in line 3, as where files were put together; it is passed over."]


@pytest.mark.parametrize("above", ["# exported 2024-03-01\n", "My shop,,\n\n,,\n", 'sep=,\n"a title\nin two lines",,\n', "Items; all, of them\n"])
def test_lines_above_the_header_are_passed_over_and_noted(above: str, tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "items.csv", f"{above}item_id,text,category\n1,a,b\n2,c,d\n")
    header = above.count("\n") + 1
    assert rows == [
        (header + 1, {"item_id": "1", "text": "a", "category": "b"}),
        (header + 2, {"item_id": "2", "text": "c", "category": "d"}),
    ]
    assert problems.notes == [f"{tmp_path}/items.csv: the header is in line {header}; what stands above it is passed over."]


def test_a_column_with_another_usual_name_is_not_guessed_but_noted(tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "items.csv", "item_id,Title,label,text\n1,a,b,c\n", optional=("image", "text", "category"))
    assert rows == [(2, {"item_id": "1", "text": "c"})]
    assert problems.notes == [f"{tmp_path}/items.csv: the column 'label' is not read; if it is the `category`, call it so."]
    with pytest.raises(DataError, match=r"the column `item_id` is missing; .* did you mean 'SKU'\?"):
        read(tmp_path / "items.csv", "SKU,text\n1,x\n")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("items.csv", b"PK\3\4xl/workbook.xml", "a ZIP archive, as .xlsx, .ods and .docx files are, but it must be a CSV file"),
        ("items.csv", b"PAR1", "a Parquet file, but it must be a CSV file"),
        ("items.csv", b'[\n {"item_id": 1}]', "a JSON document, but it must be a CSV file"),
        ("items.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", r"a pointer of Git LFS, .*git lfs pull"),
        ("items.csv", b"\0" * 512, "nothing but zeros, but it must be a CSV file"),
        ("items.parquet", b"\x1f\x8b\x08", "compressed with gzip, but it must be a Parquet file; export the table as one"),
        ("items.parquet", b"ARROW1\0\0", r"an Arrow \(Feather\) file, but it must be a Parquet file"),
    ],
)
def test_a_file_that_is_something_else_is_named_by_what_it_is(name: str, content: bytes, kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{re.escape(name)} is {kind}"):
        read(tmp_path / name, content)


def test_a_folder_of_parts_is_named(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").mkdir()
    with pytest.raises(
        DataError, match=r"items\.parquet is a folder, perhaps of parts as Spark writes them, but a table must be one file; put the parts together\."
    ):
        list(read_rows(tmp_path / "items.parquet", ("item_id",), (), Problems()))


def test_stray_bytes_in_the_only_odd_line_do_not_make_rubbish_of_its_other_letters(tmp_path: Path) -> None:
    _, problems = read(tmp_path / "items.csv", "item_id,text\n1,Größe für ".encode() + b"\x93M\x94\n")
    assert [line for line in problems.found if "byte" in line] == [
        f"{tmp_path}/items.csv, line 2: byte 16 (0x93) is not UTF-8; save the whole file in the encoding UTF-8."
    ]


@pytest.mark.parametrize("text", ["http://a.b/c,1", "<3,x", "[a],b", "{x},y"])
def test_a_csv_may_begin_with_any_sign(text: str, tmp_path: Path) -> None:
    header, value = text.split(",")
    assert get_values(tmp_path / "items.csv", f"{header},item_id\n1,{value}\n") == [{"item_id": value}]


def test_one_line_of_an_old_encoding_among_others_is_named_though_it_has_as_many_odd_bytes(tmp_path: Path) -> None:
    _, problems = read(tmp_path / "items.csv", "item_id,text\n1,Größe\n2,Müll\n".encode() + b"3,\x93Caf\xe9\x94\n")
    assert problems.notes == []
    assert problems.found[0].startswith(f"{tmp_path}/items.csv, line 4: byte 3 (0x93) is not UTF-8")
