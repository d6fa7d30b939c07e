"""One clock and one order of day and month a column. Run: python -m pytest tests/pipeline/data/test_times.py"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.data.dates import read_date
from pipeline.data.problems import Problems
from pipeline.data.times import TimeColumn

PATH = Path("interactions.csv")
MOMENT = datetime(2024, 3, 1, 10, 0, tzinfo=UTC).timestamp()
HOUR, DAY = 3_600, 86_400


def decide(*texts: str) -> tuple[list[float], Problems]:
    """Return the times of a column, and what was found; the first row is in line 2."""
    problems = Problems()
    column = TimeColumn(PATH, problems)
    for line, text in enumerate(texts, start=2):
        column.add(line, text)
    return column.decide().tolist(), problems


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-03-01T10:00:00", MOMENT),
        ("2024-03-01 10:00:00 UTC", MOMENT),
        ("2024-03-01T10:00:00Z", MOMENT),
        ("2024-03-01T10:00:00.250+01:00", MOMENT - HOUR + 0.25),
        ("2024-03-01 10:00:00 +0100", MOMENT - HOUR),
        ("2024-03-01 10:00:00 -0530", MOMENT + 5.5 * HOUR),
        ("2024/3/1 10:00", MOMENT),
        ("2024.3.1", MOMENT - 10 * HOUR),
        ("1.3.2024 10:00", MOMENT),
        ("13/3/2024 10:00", MOMENT + 12 * DAY),
        ("3/13/2024 10:00 PM", MOMENT + 12.5 * DAY),
        ("3/13/2024 12:00 am", MOMENT + 12 * DAY - 10 * HOUR),
        ("3/3/2024 10:00:00 UTC", MOMENT + 2 * DAY),
        ("2024年3月1日 10:00", MOMENT),
        ("Fri, 01 Mar 2024 10:00:00 GMT", MOMENT),
        ("Fri Mar 01 11:00:00 +0100 2024", MOMENT),
        ("Mar 1, 2024 10:00 AM", MOMENT),
        ("1 March 2024 10:00", MOMENT),
        ("Fri Mar 01 2024 10:00:00 GMT+0100 (Central European Standard Time)", MOMENT - HOUR),
        ("Fri Mar 01 10:00:00 UTC-05:00 2024", MOMENT + 5 * HOUR),
        ("2024-03-01 10:00:00 GMT+1", MOMENT - HOUR),
        ("2024-03-01T10:00:00+01:00[Europe/Berlin]", MOMENT - HOUR),
        ("3/13/2024, 10:00:00\u202fAM", MOMENT + 12 * DAY),
        ("2024-03-01 10:00:00+00", MOMENT),
        ("2024-02-29T24:00:00", MOMENT - 10 * HOUR),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC).timestamp()),
        ("0001-01-02 00:00:00 +0300", datetime(1, 1, 1, 21, tzinfo=UTC).timestamp()),
        ("0002/1/1 00:00 -0100", datetime(2, 1, 1, 1, tzinfo=UTC).timestamp()),
        ("0001/1/1 00:00 +0100", datetime(1, 1, 1, tzinfo=UTC).timestamp() - HOUR),
    ],
)
def test_dates_are_read_as_people_write_them(text: str, seconds: float) -> None:
    times, problems = decide(text)
    assert times == [seconds]
    assert problems.found == []


@pytest.mark.parametrize(
    "text",
    [
        "monday",
        "March 2024",
        "1/2/24",
        "31/31/2024",
        "2024-02-30",
        "Mar 1, 2024 10:00 EST",
        "inf",
        "13/3/2024 25:00",
        "2024-03-01T24:00:01",
        "2024/3/1 10:60",
        "2024/3/1 10:00:61",
    ],
)
def test_what_is_no_date_is_a_problem_and_never_filled_up_from_today(text: str) -> None:
    assert read_date(text) is None
    _, problems = decide("2024-03-01", text)
    assert problems.found[0].startswith(f"interactions.csv, line 3: the timestamp {text!r} is neither a number nor a date")


def test_a_number_over_12_settles_the_order_of_day_and_month_for_the_whole_column() -> None:
    for settling, expected in (("13/1/2024", datetime(2024, 1, 3, 10, tzinfo=UTC)), ("1/13/2024", datetime(2024, 3, 1, 10, tzinfo=UTC))):
        times, problems = decide("3/1/2024 10:00", settling)
        assert times[0] == expected.timestamp()
        assert problems.found == []


def test_an_order_that_nothing_settles_is_refused_in_one_line_with_count_and_three_examples() -> None:
    _, problems = decide(*["3/1/2024 10:00", "4/1/2024", "3/1/2024 10:00"] * 37)
    assert problems.found == [
        "interactions.csv, line 2: the timestamp '3/1/2024 10:00' does not say whether day or month comes first, nor does any other; "
        "write 2026-01-31. So it is in 111 lines, also line 3 ('4/1/2024') and line 4."
    ]


def test_two_orders_of_day_and_month_are_refused_with_both() -> None:
    _, problems = decide("13/1/2024", "1/13/2024")
    assert problems.found == [
        "interactions.csv, line 3: in the timestamp '1/13/2024' day and month are in another order than in '13/1/2024' in line 2."
    ]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (
            ["1709280000", "1709280000123"],
            "'1709280000123' is milliseconds since 1970 (1 times), but '1709280000' in line 2 is seconds since",
        ),
        (["1709280000", "20240301"], "'20240301' is a day in digits (1 times), but '1709280000' in line 2 is seconds since 1970"),
        (
            ["1709280000123456", "1709280000123"],
            "'1709280000123' is milliseconds since 1970 (1 times), but '1709280000123456' in line 2 is microseconds",
        ),
        (
            ["1709280000123456789", "1709280000.5"],
            "'1709280000.5' is seconds since 1970 (1 times), but '1709280000123456789' in line 2 is nanoseconds",
        ),
        (["2024-03-01", "1709280000"], "'1709280000' is seconds since 1970 (1 times), but '2024-03-01' in line 2 is a date"),
        (["45352.4", "2024-03-01", "2024-03-02"], "'2024-03-01' is a date (2 times), but '45352.4' in line 2 is a counter (1 times)"),
    ],
)
def test_two_clocks_in_a_column_are_refused_with_both_examples(texts: list[str], sentence: str) -> None:
    _, problems = decide(*texts)
    assert len(problems.found) == 1
    assert problems.found[0].startswith(f"interactions.csv, line 3: the column `timestamp` has two clocks: {sentence}")


@pytest.mark.parametrize("texts", [["3", "1", "2"], ["0", "1", "-1"], ["1709280000", "964980000.5"], ["20240301", "20231231"], ["1709280000123"] * 2])
def test_numbers_of_one_clock_are_taken_as_they_are(texts: list[str]) -> None:
    times, problems = decide(*texts)
    assert times == list(map(float, texts))
    assert problems.found == []
    assert problems.left_out == {}


def test_a_counter_may_pass_numbers_that_look_like_days() -> None:
    times, problems = decide("5", "20240301", "20249999")
    assert times == [5, 20240301, 20249999]
    assert problems.found == []


def test_a_number_that_a_spreadsheet_has_rounded_is_refused() -> None:
    _, problems = decide("1.70928E+12", "1,70928E+12", "1.7092944001234568e+18")
    assert problems.found == [
        "interactions.csv, line 2: the timestamp '1.70928E+12' is rounded, as spreadsheets do; write all of its digits. "
        "So it is in 2 lines, also line 3 ('1,70928E+12')."
    ]


def test_a_missing_time_and_a_zero_beside_a_clock_leave_their_rows_out() -> None:
    times, problems = decide("1709280000", "", "1709280001", "0", "-1")
    assert [time for time in times if not math.isnan(time)] == [1709280000, 1709280001]
    assert problems.found == []
    sentence = "`timestamp` says no time, so the row has no place in the order; it is left out. So it is in 3 lines, also line 5 and line 6."
    assert problems.left_out == {"interactions.csv, line 3": sentence}


def test_a_column_without_any_time_is_as_good_as_none_and_noted() -> None:
    times, problems = decide("", "", "")
    assert times == [0, 1, 2]
    assert re.search("holds no time, so the order of rows is taken", problems.notes[0])
    assert problems.left_out == {}


@pytest.mark.parametrize("none", ["0001-01-01", "0001-01-01T00:00:00Z", "1970-01-01 00:00:00", "1900-01-01", "9999-12-31", "9999-12-31 23:59:59"])
def test_a_date_that_stands_for_none_never_makes_its_row_the_first_or_the_last(none: str) -> None:
    times, problems = decide("2024-03-01 10:00", none, "2024-03-01 11:00")
    assert [time for time in times if not math.isnan(time)] == [MOMENT, MOMENT + HOUR]
    assert problems.found == []
    assert list(problems.left_out) == ["interactions.csv, line 3"]


def test_a_date_that_may_stand_for_none_is_a_date_among_those_of_its_year() -> None:
    times, problems = decide("1970-01-01", "1970-01-02", "1970-01-03")
    assert times == [0, DAY, 2 * DAY]
    assert problems.left_out == {}
    times, problems = decide("1970-01-01", "0001-01-01")
    assert times == [0, 1]
    assert re.search("holds no time, so the order of rows is taken", problems.notes[0])
