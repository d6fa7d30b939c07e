"""Your own catalogue. Run: python -m pytest tests/pipeline/data/test_folder.py"""

from __future__ import annotations

import io
import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.adapters.folder import FolderConfig, build_folder
from tests.configs import FOLDER as CONFIG
from tests.raw_sets import draw_image, make_folder, write_csv_rows


@pytest.fixture
def config(tmp_path: Path) -> FolderConfig:
    return replace(CONFIG, raw=str(make_folder(tmp_path / "raw")))


def build(config: FolderConfig):
    return build_folder(config, extra=Path(config.raw) / "no-extra")


def test_traps_become_whole_tables(config: FolderConfig) -> None:
    data = build(config)
    assert (len(data.items), len(data.cases)) == (40, 12)
    assert [row.item_id for row in data.missing] == ["9999"]
    assert data.missing[0].path.endswith("images/gone.jpg")
    assert (len(data.losses.users), data.facts["repeated_interactions"]) == (1, 12)
    first = data.items["000"]
    assert (first["item_id"], first["text"], first["category"]) == ("000", 'Mug "No. 0", blue, 0.3 l', "cups, plates")
    with Image.open(io.BytesIO(first["image"]["bytes"])) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))


def test_the_last_interaction_is_the_reference_and_a_repeated_one_counts_at_its_last_time(tmp_path: Path) -> None:
    raw = make_folder(tmp_path / "raw")
    rows = [[user, item, time] for user in "abc" for time, item in enumerate(["000", "001", "002", "003", "004", "001"])]
    write_csv_rows(raw / "interactions.csv", ["user_id", "item_id", "timestamp"], rows[::-1])
    data = build(replace(CONFIG, raw=str(raw)))
    assert {tuple(case["history"]) for case in data.cases} == {("000", "002", "003", "004")}
    assert {case["reference_id"] for case in data.cases} == {"001"}


def test_without_timestamps_the_order_of_rows_counts_and_only_the_latest_items_are_kept(tmp_path: Path) -> None:
    raw = make_folder(tmp_path / "raw")
    write_csv_rows(raw / "interactions.csv", ["user_id", "item_id"], [[user, f"{n:03d}"] for user in "abc" for n in range(20)])
    data = build(replace(CONFIG, raw=str(raw)))
    assert all(case["history"] == [f"{n:03d}" for n in range(13, 19)] and case["reference_id"] == "019" for case in data.cases)


def test_a_table_of_references_is_taken_and_a_reference_is_never_in_its_history(config: FolderConfig) -> None:
    raw = Path(config.raw)
    write_csv_rows(raw / "references.csv", ["user_id", "item_id"], [[f"{user:02d}", "005"] for user in range(12)])
    data = build(config)
    assert {case["reference_id"] for case in data.cases} == {"005"}
    assert not any("005" in case["history"] for case in data.cases)


def test_parquet_gives_what_csv_gives(config: FolderConfig) -> None:
    raw = Path(config.raw)
    expected = build(config)
    for name in ("items", "interactions"):
        kinds = {"item_id": pa.string(), "user_id": pa.string()}
        table = pa_csv.read_csv(raw / f"{name}.csv", convert_options=pa_csv.ConvertOptions(column_types=kinds))
        pq.write_table(table, raw / f"{name}.parquet")
        (raw / f"{name}.csv").unlink()
    again = build(config)
    assert (again.items, again.cases, again.interactions) == (expected.items, expected.cases, expected.interactions)


@pytest.mark.parametrize("kind", ["iso", "timestamp", "float"])
def test_dates_and_fractions_order_interactions_in_csv_and_parquet(tmp_path: Path, kind: str) -> None:
    raw = make_folder(tmp_path / "raw")
    moments = [datetime(2026, 1, 31, 12, n, tzinfo=UTC) for n in range(5)]
    rows = [(user, f"{n:03d}", moment) for user in "abc" for n, moment in enumerate(moments)][::-1]
    if kind == "iso":
        write_csv_rows(raw / "interactions.csv", ["user_id", "item_id", "timestamp"], [[*row[:2], row[2].isoformat()] for row in rows])
    else:
        times = pa.array([row[2] for row in rows]) if kind == "timestamp" else pa.array([row[2].timestamp() + 0.5 for row in rows])
        table = pa.table({"user_id": [row[0] for row in rows], "item_id": [row[1] for row in rows], "timestamp": times})
        (raw / "interactions.csv").unlink()
        pq.write_table(table, raw / "interactions.parquet")
    data = build(replace(CONFIG, raw=str(raw)))
    assert all(case["history"] == ["000", "001", "002", "003"] and case["reference_id"] == "004" for case in data.cases)


def test_a_parquet_column_of_another_type_is_named(tmp_path: Path) -> None:
    raw = make_folder(tmp_path / "raw")
    (raw / "interactions.csv").unlink()
    pq.write_table(pa.table({"user_id": [True], "item_id": ["000"]}), raw / "interactions.parquet")
    with pytest.raises(ValueError, match=r"interactions\.parquet: column `user_id` is of type bool, but it must hold texts or whole numbers"):
        build(replace(CONFIG, raw=str(raw)))


def test_an_item_without_image_column_and_text_is_found_by_its_id(tmp_path: Path) -> None:
    raw = make_folder(tmp_path / "raw")
    write_csv_rows(raw / "items.csv", ["item_id"], [[f"{n:03d}"] for n in range(40)] + [["9999"]])
    data = build(replace(CONFIG, raw=str(raw)))
    assert len(data.items) == 40
    assert data.items["003"]["text"] == ""  # a number says nothing: the caption stands in


@pytest.mark.parametrize(
    ("table", "row", "sentence"),
    [
        ("items", ["000", "x.jpg", "t", "c"], r"items\.csv, line 43: the item_id '000' is in line 2 already"),
        ("items", ["x", "../../etc/passwd", "t", "c"], r"items\.csv, line 43: the image '\.\./\.\./etc/passwd' is no file name inside of"),
        ("items", ["x", "/etc/passwd", "t", "c"], r"line 43: the image '/etc/passwd'"),
        ("items", ["x", "x.jpg", "t" * 100_000, "c"], r"line 43: `text` has 100,000 characters, more than the allowed 10,000"),
        ("interactions", ["u", "nowhere", "1"], r"interactions\.csv, line 112: the item_id 'nowhere' is not in the table of items"),
        ("interactions", ["u", "1", "1"], r"line 112: the item_id '1' is not in the table of items; did you mean '001'\?"),
        ("interactions", ["u", "1.0", "1"], r"the item_id '1\.0' is not in the table of items; did you mean '001'\?"),
        ("interactions", ["u", "'00-1", "1"], r"""the item_id "'00-1" is not in the table of items; did you mean '001'\?"""),
        (
            "interactions",
            ["1.23457E+11", "001", "1"],
            r"the user_id '1\.23457E\+11' is rounded, as spreadsheets do with long numbers; make the column a text",
        ),
        ("items", ["1E+05", "x.jpg", "t", "c"], r"items\.csv, line 43: the item_id '1E\+05' is rounded"),
        ("interactions", ["u", "001", "monday"], r"the timestamp 'monday' is neither a number nor a date"),
        ("interactions", ["u", "001", "inf"], r"the timestamp 'inf' is neither"),
        ("interactions", ["u", "001"], r"the row has 2 comma-separated fields, but the header has 3"),
    ],
)
def test_every_wrong_row_is_named_with_file_and_line(config: FolderConfig, table: str, row: list[str], sentence: str) -> None:
    with (Path(config.raw) / f"{table}.csv").open("a", encoding="utf-8") as file:
        file.write(",".join(row) + "\n")
    with pytest.raises(ValueError, match=sentence):
        build(config)


@pytest.mark.parametrize(
    ("table", "row", "sentence"),
    [
        ("items", ["", "x.jpg", "t", "c"], "`item_id` is empty, so the row names no item; it is left out."),
        ("interactions", ["", "001", "1"], "`user_id` is empty, so the row is no interaction; it is left out."),
        ("interactions", ["u", "N/A", "1"], "`item_id` is empty, so the row is no interaction; it is left out."),
        ("interactions", ["u", "001", "nan"], "`timestamp` says no time, so the row has no place in the order; it is left out."),
    ],
)
def test_a_row_without_a_needed_value_is_left_out_and_said(config: FolderConfig, table: str, row: list[str], sentence: str) -> None:
    expected = build(config)
    path = Path(config.raw) / f"{table}.csv"
    number = len(path.read_text().splitlines()) + 1
    with path.open("a", encoding="utf-8") as file:
        file.write(",".join(row) + "\n")
    data = build(config)
    assert data.left_out == {f"{path}, line {number}": sentence}
    assert data.facts["rows_left_out"] == 1
    assert (data.items, data.cases) == (expected.items, expected.cases)


def test_a_table_that_loses_too_many_rows_is_refused_with_the_reason(config: FolderConfig) -> None:
    path = Path(config.raw) / "interactions.csv"
    path.write_text(re.sub(r",1\d{3}$", ",NULL", path.read_text(), flags=re.MULTILINE))
    share = f"more than dataset.max_rejected_fraction, {config.max_rejected_fraction}: `timestamp` says no time"
    with pytest.raises(ValueError, match=rf"interactions\.csv: 108 of 110 rows would be left out, {re.escape(share)}"):
        build(config)


def test_words_for_missing_are_no_category_no_text_and_no_image(tmp_path: Path) -> None:
    raw = make_folder(tmp_path / "raw")
    write_csv_rows(raw / "items.csv", ["item_id", "image", "text", "category"], [[f"{n:03d}", "None", "nan", "NULL"] for n in (*range(40), 9999)])
    items = build(replace(CONFIG, raw=str(raw))).items
    assert len(items) == 40
    assert {(row["text"], row["category"]) for row in items.values()} == {("", "")}  # nor does the name of the file say anything


def make_catalogue(raw: Path, rows: list[dict[str, str]], files: list[str]) -> FolderConfig:
    """Make a catalogue of the given rows and pictures, and three users who have looked at all of it."""
    for n, name in enumerate(files):
        (raw / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image(n).save(raw / "images" / name, format="PNG")
    write_csv_rows(raw / "items.csv", list(rows[0]), [list(row.values()) for row in rows])
    write_csv_rows(raw / "interactions.csv", ["user_id", "item_id"], [[user, row["item_id"]] for user in "abc" for row in rows])
    return replace(CONFIG, raw=str(raw), min_history=1)


def test_names_with_folders_slashes_and_another_case_are_found(tmp_path: Path) -> None:
    names = ["images/001.png", r"images\002.png", "./images/003.png", "IMAGES/004.PNG", "005.PNG", "caf%C3%A9.png"]
    files = ["001.png", "002.png", "003.png", "004.png", "005.png", unicodedata.normalize("NFD", "café.png")]
    data = build(make_catalogue(tmp_path / "raw", [{"item_id": f"i{n}", "image": name} for n, name in enumerate(names)], files))
    assert (len(data.items), len(data.cases), data.missing) == (6, 3, [])


def test_a_name_that_no_file_has_is_missing_with_the_file_that_may_be_meant(tmp_path: Path) -> None:
    rows = [
        {"item_id": "a", "image": "001.png"},
        {"item_id": "b", "image": "002.jpg"},
        {"item_id": "c", "image": "003.png"},
        {"item_id": "d", "image": "x"},
    ]
    data = build(make_catalogue(tmp_path / "raw", rows, ["001.png", "002.png", "003.png"]))
    assert [row.reason for row in data.missing] == ["There is no such file; did you mean 002.png?", "There is no such file."]


@pytest.mark.parametrize("suffix", [".WEBP", ".GIF", ".BMP", ".Jpg", ".jfif", ".jpe"])
def test_every_ending_is_found_without_an_image_column(tmp_path: Path, suffix: str) -> None:
    data = build(make_catalogue(tmp_path / "raw", [{"item_id": f"{n}"} for n in range(3)], [f"{n}{suffix}" for n in range(3)]))
    assert (len(data.items), data.missing) == (3, [])


def test_file_names_become_texts_only_where_they_say_something(tmp_path: Path) -> None:
    files = {
        "a": "red_wool-hat.png",
        "b": "IMG_0001.png",
        "c": "d41d8cd98f00b204e9800998ecf8427e.png",
        "d": "WhatsApp Image 2024-01-31 at 12.00.00.png",
    }
    config = make_catalogue(tmp_path / "raw", [{"item_id": key, "image": name} for key, name in files.items()], list(files.values()))
    assert {item_id: item["text"] for item_id, item in build(config).items.items()} == {"a": "red wool hat", "b": "", "c": "", "d": ""}


def test_texts_that_are_codes_or_file_names_are_left_to_the_caption(tmp_path: Path) -> None:
    texts = {"a": "Mug, blue", "b": "b.png", "c": "4006381333931", "d": "SKU-10023", "e": "IMG_0001.JPG"}
    rows = [{"item_id": key, "text": text, "category": "d41d8cd98f00b204e9800998ecf8427e"} for key, text in texts.items()]
    data = build(make_catalogue(tmp_path / "raw", rows, [f"{key}.png" for key in texts]))
    assert {key: item["text"] for key, item in data.items.items()} == {"a": "Mug, blue", "b": "b.png", "c": "", "d": "", "e": ""}


def test_rows_about_companions_of_other_systems_are_no_items(tmp_path: Path) -> None:
    names = ["001.png", "002.png", "003.png", "._001.png", ".DS_Store", "Thumbs.db", "images/.ipynb_checkpoints/001.png"]
    rows = [{"item_id": name, "image": name} for name in names]
    config = make_catalogue(tmp_path / "raw", rows, names[:4])
    write_csv_rows(tmp_path / "raw" / "interactions.csv", ["user_id", "item_id"], [[user, name] for user in "abc" for name in names[:3]])
    data = build(config)
    assert (list(data.items), data.missing) == (names[:3], [])


def test_a_picture_in_two_formats_is_a_problem_with_its_line(tmp_path: Path) -> None:
    config = make_catalogue(tmp_path / "raw", [{"item_id": "a"}, {"item_id": "b"}], ["a.png", "b.jpg", "b.png"])
    with pytest.raises(ValueError, match=r"items\.csv, line 3: 'b' may be any of b\.jpg, b\.png in .*images; keep one of them"):
        build(config)


def test_ids_are_the_same_with_composed_and_decomposed_letters(tmp_path: Path) -> None:
    config = make_catalogue(tmp_path / "raw", [{"item_id": "é"}, {"item_id": "b"}, {"item_id": "c"}], ["é.png", "b.png", "c.png"])
    rows = [[user, item] for user in ("zoé", unicodedata.normalize("NFD", "zoé"), "u", "v") for item in (unicodedata.normalize("NFD", "é"), "b", "c")]
    write_csv_rows(tmp_path / "raw" / "interactions.csv", ["user_id", "item_id"], rows)
    data = build(config)
    assert sorted(case["user_id"] for case in data.cases) == ["u", "v", "zoé"]
    assert {tuple(case["history"]) for case in data.cases} == {("é", "b")}


def test_companions_in_the_folder_of_extra_items_are_none(tmp_path: Path) -> None:
    config = make_catalogue(tmp_path / "raw", [{"item_id": key} for key in "abc"], ["a.png", "b.png", "c.png"])
    extra = tmp_path / "extra"
    extra.mkdir()
    for name in ("hat.PNG", "IMG_0001.jfif", "._hat.PNG"):
        draw_image(1).save(extra / name, format="PNG")
    texts = {item_id: item["text"] for item_id, item in build_folder(config, extra=extra).items.items() if item_id.startswith("extra-")}
    assert texts == {"extra-IMG_0001.jfif": "", "extra-hat.PNG": "hat"}


def test_the_folder_of_pictures_is_found_in_another_case(config: FolderConfig) -> None:
    raw = Path(config.raw)
    (raw / "images").rename(raw / "Images")
    assert len(build(config).items) == 40


@pytest.mark.parametrize("name", ["item.csv", "items (1).csv", "items_2024.csv"])
def test_a_table_of_nearly_the_right_name_is_suggested(config: FolderConfig, name: str) -> None:
    (Path(config.raw) / "items.csv").rename(Path(config.raw) / name)
    with pytest.raises(ValueError, match=rf"holds neither items\.csv nor items\.parquet \(did you mean '{re.escape(name)}'\?\); one of"):
        build(config)
