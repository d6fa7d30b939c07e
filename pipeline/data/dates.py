"""One date as people write it: ISO, numbers with `/`, `.` or `-`, or words; UTC where it names no offset."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NUMBERS = re.compile(  # 2024/3/1, 3/1/2024 or 1.3.2024, and perhaps a time and a zone: 10:00, 10:00:00.5 PM, T10:00Z, +0100, UTC
    r"(\d{1,4})([/.\-])(\d{1,2})\2(\d{1,4})"
    r"(?:(?:,? +|T)(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?: ?([AP])\.?M\.?)?)?"
    r" ?(?:Z|UTC|GMT|([+-]\d{2}):?(\d{2}))?",
    re.IGNORECASE | re.ASCII,
)
CHINESE = str.maketrans({"年": "/", "月": "/", "日": " "})
OFFSET = re.compile(r"\b(?:UTC|GMT) ?([+-])(\d{1,2}):?(\d{2})?(?!\d)", re.IGNORECASE | re.ASCII)  # GMT+0100, UTC+1: an offset, not the sign of POSIX
ZONE_NAME = re.compile(r"(Z|[+-]\d{2}:?\d{2}) ?(?:\([^()]*\)|\[[^\[\]]*\])")  # (Central European Time), [Europe/Berlin]: the offset says it already
NOON, HOUR, MINUTE = 12, 3_600, 60


class Order(enum.IntEnum):
    """What a date shows about the order of day and month; SAME: it does not matter to it."""

    SAME = enum.auto()
    DAY_FIRST = enum.auto()
    MONTH_FIRST = enum.auto()
    UNKNOWN = enum.auto()


@dataclass(frozen=True, slots=True)
class Date:
    """Seconds since 1970; of an unknown order, the day is taken to be first, and `swapped` is the time if the month is."""

    seconds: float
    order: Order = Order.SAME
    swapped: float = 0.0


def read_date(text: str) -> Date | None:
    """Return the date that a text is, or None; a year has four digits, and a zone is UTC or an offset."""
    text = ZONE_NAME.sub(r"\1", OFFSET.sub(lambda match: f"{match[1]}{match[2]:0>2}:{match[3] or '00'}", " ".join(text.split())))
    try:
        return Date(count_seconds(datetime.fromisoformat(text)))
    except ValueError:
        pass
    if match := NUMBERS.fullmatch(text.translate(CHINESE).strip() if "年" in text else text):
        return read_numbers(match)
    seconds = read_words(text)
    return None if seconds is None else Date(seconds)


def count_seconds(moment: datetime) -> float:
    """Return the seconds since 1970."""
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH).total_seconds()


def read_numbers(match: re.Match[str]) -> Date | None:
    """Return the date of a match of NUMBERS: the year is where four digits are, and points mean that the day comes first."""
    first, sign, second, third = match.group(1, 2, 3, 4)
    a, b, c = int(first), int(second), int(third)
    try:
        if len(first) == 4 and len(third) <= 2:
            return Date(build_seconds(match, a, b, c))
        if len(third) != 4 or len(first) > 2:
            return None
        if sign == "." or a > NOON:
            return Date(build_seconds(match, c, b, a), Order.SAME if sign == "." else Order.DAY_FIRST)
        if b > NOON:
            return Date(build_seconds(match, c, a, b), Order.MONTH_FIRST)
        return Date(build_seconds(match, c, b, a), Order.SAME if a == b else Order.UNKNOWN, build_seconds(match, c, a, b))
    except ValueError:  # no such day or hour
        return None


def build_seconds(match: re.Match[str], year: int, month: int, day: int) -> float:
    """Return the seconds of a day at the match's time and offset; 24:00 is the next day's midnight, a leap second that of the next minute."""
    hour, minute, second, fraction, half, offset_hours, offset_minutes = match.groups()[4:]
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if half:
        if not 1 <= hours <= NOON:
            raise ValueError("no hour of half a day")
        hours = hours % NOON + (NOON if half in "Pp" else 0)
    if minutes > 59 or seconds > 60 or (hours, minutes, seconds) > (2 * NOON, 0, 0):
        raise ValueError("no time of a day")
    offset = int(offset_hours or 0) * HOUR + int(f"{(offset_hours or '+')[0]}{offset_minutes or 0}") * MINUTE
    micros = int(f"{fraction or 0:0<6}"[:6])
    return count_seconds(datetime(year, month, day)) + hours * HOUR + minutes * MINUTE + seconds + micros / 10**6 - offset


@lru_cache(maxsize=10_000)
def read_words(text: str) -> float | None:
    """Return the seconds of a date with a month's name, `Mar 1, 2024 10:00 AM`, or None; day, month and year must be said."""
    from dateutil import parser

    if not re.search(r"[A-Za-z]{3}", text) or not re.search(r"\d{4}", text):
        return None
    try:  # what is not said would be taken from the default
        moments = {parser.parse(text, default=default, tzinfos=find_zone) for default in (datetime(2000, 1, 1), datetime(2001, 2, 2))}
    except (ValueError, OverflowError):
        return None
    return count_seconds(moments.pop()) if len(moments) == 1 else None


def find_zone(name: str | None, offset: int | None) -> timezone | None:
    """Return the zone of an offset in seconds or of UTC, None where none is named; ValueError for a name that could be several zones."""
    if name is None and offset is None:
        return None
    if offset is None and name.upper() not in ("UTC", "GMT", "Z"):
        raise ValueError(f"the time zone {name} has no one meaning")
    return timezone(timedelta(seconds=offset or 0))
