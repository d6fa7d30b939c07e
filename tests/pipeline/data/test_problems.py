"""Equal problems are one sentence. Run: python -m pytest tests/pipeline/data/test_problems.py"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.problems import MAX_KEPT, DataError, Problems, quote

PATH = Path("items.csv")


def test_equal_problems_are_one_sentence_with_a_count_and_three_examples() -> None:
    problems = Problems()
    for line in range(2, 112):
        problems.add(PATH, line, f"the date {quote(f'day {line % 3}')} is none; write 2026-01-31.")
    assert problems.found == [
        "items.csv, line 2: the date 'day 2' is none; write 2026-01-31. So it is in 110 lines, also line 3 ('day 0') and line 4 ('day 1')."
    ]
    assert problems.count == 110


def test_values_with_apostrophes_and_numbers_do_not_make_two_kinds() -> None:
    problems = Problems()
    for line, value in enumerate(["a", "it's", 'the "b"', 'it\'s "c"', "\\", "12"], start=2):
        problems.add(PATH, line, f"the item_id {quote(value)} is in line {line:,} already.")
    assert len(problems.found) == 1
    assert problems.found[0].endswith("""So it is in 6 lines, also line 3 ("it's", 3) and line 4 ('the "b"', 4).""")


def test_columns_and_files_are_kinds_of_their_own() -> None:
    problems = Problems()
    for path, name in ((PATH, "text"), (PATH, "category"), (Path("interactions.parquet"), "text"), (PATH, "text")):
        problems.add(path, 5, f"`{name}` is too long.")
    assert problems.found == [
        "items.csv, line 5: `text` is too long. So it is in 2 lines, also line 5.",
        "items.csv, line 5: `category` is too long.",
        "interactions.parquet, row 5: `text` is too long.",
    ]


def test_what_concerns_a_whole_file_comes_before_its_rows_and_files_in_the_order_of_reading() -> None:
    problems = Problems()
    problems.add(PATH, 7, "a row.")
    problems.add(Path("interactions.csv"), 3, "a consequence.")
    problems.add(PATH, None, "a part is missing.")
    assert problems.found == ["items.csv: a part is missing.", "items.csv, line 7: a row.", "interactions.csv, line 3: a consequence."]


def test_the_kinds_that_are_kept_are_bounded_and_the_others_counted() -> None:
    problems = Problems()
    for n in range(MAX_KEPT + 50):
        problems.add(PATH, n + 1, f"{'x' * n} is wrong.")
    assert len(problems.found) == MAX_KEPT + 1
    assert problems.found[-1] == "others: 50 more, of other kinds."
    assert problems.count == MAX_KEPT + 50
    with pytest.raises(DataError, match=r"items\.csv, line 1:  is wrong\. And 100 more kinds of problems; `python -m stages\.dataset --check` lists"):
        problems.raise_if_any()


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x00", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\n", "\ud800"])
def test_hidden_characters_are_escapes_in_values_and_in_names_of_files(character: str) -> None:
    problems = Problems()
    problems.add(Path(f"a{character}b.csv"), 1, f"{quote(f'c{character}d')} is wrong.")
    escape = character.encode("unicode_escape", "surrogatepass").decode() if character != "\ud800" else "\\ud800"
    assert problems.found == [f"a{escape}b.csv, line 1: 'c{escape}d' is wrong."]


def test_too_many_rows_left_out_refuse_the_file() -> None:
    for num_rows, is_refused in ((30, False), (29, True)):
        problems = Problems()
        for line in (2, 3, 4):
            problems.leave_out(PATH, line, "`item_id` is empty.")
        problems.count_rows(PATH, num_rows)
        problems.check_left_out(0.1)
        assert bool(problems.found) == is_refused
    assert problems.found == [
        "items.csv: 3 of 29 rows would be left out, more than dataset.max_rejected_fraction, 0.1: "
        "`item_id` is empty. So it is in 3 lines, also line 3 and line 4."
    ]
