"""Which rows are requests, and what is wrong with the others. Run: python -m pytest tests/pipeline/draw/test_requests.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.problems import DataError
from pipeline.draw.requests import Defaults, RequestTable, Start, read_requests

DEFAULTS = Defaults("ragar", 7, 2, ("original", "ragar", "sd"), k=5, start="noise", strength=0.5)
HEADER = "request_id,user_id,history,reference_id,image,text,seed,candidates,method,start,strength"


def read(folder: Path, *lines: str, header: str = HEADER) -> RequestTable:
    path = folder / "requests.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return read_requests(path, DEFAULTS)


def reject(folder: Path, line: str) -> str:
    table = read(folder, line, "fine,anna,,mug,,,,,,,")
    assert [request.request_id for request in table.requests] == ["fine"]
    assert [row.number for row in table.rejected] == [2]
    return table.rejected[0].reason


def test_what_a_request_does_not_say_is_what_the_command_says(tmp_path: Path) -> None:
    [request] = read(tmp_path, "a,anna,,mug,,,,,,,").requests
    assert (request.number, request.request_id, request.user_id, request.history, request.reference_id) == (2, "a", "anna", (), "mug")
    assert (request.method, request.seed, request.num_candidates, request.image) == ("ragar", 7, 2, None)


def test_what_a_request_says_counts(tmp_path: Path) -> None:
    [request] = read(tmp_path, "a,,mug|cup | plate,pot,,,3,4,sd,noise,").requests
    assert (request.history, request.seed, request.num_candidates, request.method) == (("mug", "cup", "plate"), 3, 4, "sd")


@pytest.mark.parametrize(
    ("start", "strength", "expected"),
    [
        ("", "", Start()),
        ("noise", "", Start()),
        ("Reference", "", Start("reference", 0.5)),  # the run's own strength
        ("reference", "0.25", Start("reference", 0.25)),
        ("reference", '"0,25"', Start("reference", 0.25)),
        ("reference", "0.250", Start("reference", 0.25)),
        ("reference", ".25", Start("reference", 0.25)),
        ("reference", "1", Start("reference", 1.0)),
    ],
)
def test_a_picture_begins_with_noise_or_with_the_references_picture(tmp_path: Path, start: str, strength: str, expected: Start) -> None:
    assert read(tmp_path, f"a,anna,,mug,,,,,,{start},{strength}").requests[0].start == expected


def test_what_the_run_begins_with_is_the_default_and_noise_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_text("user_id,reference_id,method,start,strength\nanna,mug,,,\nanna,mug,,,0.25\nanna,mug,,noise,\nanna,mug,original,,\n")
    own = replace(DEFAULTS, start="reference")
    expected = [Start("reference", 0.5), Start("reference", 0.25), Start(), Start("reference", 0.5)]
    assert [request.start for request in read_requests(path, own).requests] == expected


def test_a_number_of_parquet_is_a_strength_and_k_has_bounds(tmp_path: Path) -> None:
    path = tmp_path / "requests.parquet"
    columns = {"user_id": ["anna"] * 5, "reference_id": ["mug"] * 5, "start": ["reference"] * 5, "strength": [0.5, 1.0, 1e-5, None, 0.5]}
    pq.write_table(pa.table({**columns, "k": [None, 1, 1000, 0, 1001]}), path)
    table = read_requests(path, DEFAULTS)
    assert [(request.start.strength, request.k) for request in table.requests] == [(0.5, 5), (1.0, 1), (1e-5, 1000)]
    assert [row.reason for row in table.rejected] == [f"`k` is '{k}', but it must be a whole number from 1 to 1000." for k in (0, 1001)]


@pytest.mark.parametrize("history", ['"mug, cup"', "mug;cup", "mug|cup"])
def test_a_history_is_separated_by_any_of_three_signs(tmp_path: Path, history: str) -> None:
    assert read(tmp_path, f"a,,{history},pot,,,,,,,").requests[0].history == ("mug", "cup")


def test_a_bar_leaves_other_signs_to_the_ids(tmp_path: Path) -> None:
    assert read(tmp_path, 'a,,"mug, blue|cup;2",pot,,,,,,,').requests[0].history == ("mug, blue", "cup;2")


def test_a_list_of_parquet_is_a_history(tmp_path: Path) -> None:
    path = tmp_path / "requests.parquet"
    pq.write_table(pa.table({"history": [["mug", "cup"], []], "user_id": [None, "anna"], "reference_id": ["pot", "pot"], "seed": [3, None]}), path)
    first, second = read_requests(path, DEFAULTS).requests
    assert (first.number, first.history, first.seed) == (1, ("mug", "cup"), 3)
    assert (second.number, second.history, second.seed) == (2, (), 7)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,,,mug,,,,,,,", "neither whose picture it is (user_id) nor what somebody has looked at (history)"),
        ("a,anna,,,,,,,,,", "neither a reference_id nor an image"),
        ("a,anna,,mug,pot.png,,,,,,", "both a reference_id and an image; keep one of them"),
        ("a,anna,,mug,,,-1,,,,", "`seed` is '-1', but it must be a whole number from 0 to 9223372036854775807"),
        ("a,anna,,mug,,,9223372036854775808,,,,", "`seed` is '9223372036854775808'"),
        ("a,anna,,mug,,,1.5,,,,", "`seed` is '1.5'"),
        ("a,anna,,mug,,,٣,,,,", "`seed` is '٣'"),
        ("a,anna,,mug,,,,0,,,", "`candidates` is '0', but it must be a whole number from 1 to 16"),
        ("a,anna,,mug,,,,17,,,", "`candidates` is '17'"),
        ("a,anna,,mug,,,,,painting,,", "The method 'painting' is not known; these are: original, ragar, sd."),
        ("a,anna,,mug,,,,,,middle,", "`start` is 'middle', but it must be one of: noise, reference; or empty."),
        ("a,anna,,mug,,,,,,noise,0.5", "`strength` is '0.5', but it is for a start from the reference's picture; write reference in `start`."),
        ("a,anna,,mug,,,,,,,0.5", "`strength` is '0.5', but it is for a start from the reference's picture; write reference in `start`."),
        ("a,anna,,mug,,,,,,reference,0", "`strength` is '0', but it must be a number above 0 and at most 1"),
        ("a,anna,,mug,,,,,,reference,1.01", "`strength` is '1.01', but it must be a number above 0 and at most 1"),
        ("a,anna,,mug,,,,,,reference,-0.5", "`strength` is '-0.5'"),
        ("a,anna,,mug,,,,,,reference,50%", "`strength` is '50%'"),
        ("a,anna,,mug,,,,,,reference,1e3", "`strength` is '1e3'"),
        ("a,anna,,mug,,,,,,reference,0.٥", "`strength` is '0.٥'"),
        ("a,anna,,mug,,,,,original,reference,", "It says what to begin with (start, strength), but the method original copies a picture"),
        ("a,anna,,mug,,,,,original,,0.5", "It says what to begin with (start, strength), but the method original copies a picture"),
        ("a,anna,,,../secret.png,,,,,,", "The image '../secret.png' is no file name inside of the folder"),
        ("a,anna,,,/etc/hostname,,,,,,", "The image '/etc/hostname' is no file name inside of the folder"),
        ("a,anna,,,link.png,,,,,,", "The image 'link.png' is a link that leads outside of the folder"),
        ("a,anna,,,gone.png,,,,,,", "The image 'gone.png' is not there; its path is relative to the folder"),
        ("a,anna,,,folder.png,,,,,,", "The image 'folder.png' is not there"),
        ("a,anna,,mug,,,,,\x1b[31msd,,", "The method '\\x1b[31msd' is not known"),
        ("a,anna", "The row has 2 comma-separated fields, but the header has 11"),
        (f"a,{'x' * 10_001},,mug,,,,,,,", "`user_id` has 10,001 characters, more than the allowed 10,000"),
        (f"a,,{'|'.join(['mug'] * 1001)},pot,,,,,,,", "The history names 1,001 items, more than the allowed 1,000; keep the latest."),
    ],
)
def test_a_bad_row_has_its_reason_and_the_others_go_on(tmp_path: Path, line: str, words: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "asked"
    (folder / "folder.png").mkdir(parents=True)
    (folder / "link.png").symlink_to(outside / "secret.png")
    assert words in reject(folder, line)


def test_a_picture_beside_the_table_is_found(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "pot.png").write_bytes(b"any")
    [request] = read(tmp_path, 'a,anna,,,new/pot.png,"a pot, red",,,,,').requests
    assert (request.image, request.text) == (tmp_path / "new" / "pot.png", "a pot, red")


def test_a_name_that_is_given_twice_is_the_first_ones(tmp_path: Path) -> None:
    table = read(tmp_path, "a,anna,,mug,,,,,,,", "a,bert,,mug,,,,,,,")
    assert [request.user_id for request in table.requests] == ["anna"]
    assert table.rejected[0].reason == "The request_id 'a' is that of row 2 already."


def test_other_spellings_of_columns_are_read(tmp_path: Path) -> None:
    [request] = read(tmp_path, "anna;mug", header="User ID;reference-id").requests
    assert (request.user_id, request.reference_id) == ("anna", "mug")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the table holds no request"),
        ("a,b\n1,2\n", "none of the columns is known; these are: request_id, user_id"),
        (f"{HEADER}\n", "the table holds no request"),
    ],
)
def test_a_file_that_is_no_table_of_requests_ends_everything(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_requests(path, DEFAULTS)
