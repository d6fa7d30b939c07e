"""Write Table 3 as a Markdown page, and its figures as rows for CSV files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.metrics.intervals import Interval
from pipeline.report.figures import get_title, sort_methods
from pipeline.study.analysis import Column, adjust_pairs
from pipeline.study.key import Key
from pipeline.study.statistics import LEVEL, NUM_REFITS, NUM_RESAMPLES, Overall

FIGURE_COLUMNS = ("task", "rater", "method", "mean_rank", "low", "high", "strength", "strength_low", "strength_high", "participants", "cases")
PAIR_COLUMNS = (
    "task", "rater", "first", "second", "difference", "low", "high", "share_before", "p_participants", "p_cases", "p_crossed", "p_holm",
)  # fmt: skip
POWER_COLUMNS = ("task", "rater", "participants", "first", "second", "power")
STAND_IN = (
    "**No people have taken part: this is an automatic stand-in.** Models order the pictures by the run's own scores, each in a column of its own. "
    "The figures say what these models prefer; intervals and tests are over cases alone, and ties are broken by lot."
)


@dataclass(frozen=True)
class Turnout:
    """What came back: ballots by what became of them, minutes that the middle one took, how often the first picture on the screen came first."""

    num_counted: int
    num_inattentive: int
    num_refused: int
    minutes: float
    first_shown: float
    first_expected: float


def get_name(method: str) -> str:
    """Return how Table 3 writes a method."""
    return "ORI" if method == "original" else get_title(method)


def build_page(key: Key, columns: Sequence[Column], turnout: Turnout | None) -> str:
    """Return the whole page; without a turnout it is that of the stand-in."""
    methods = sort_methods(list(key.methods))
    shown = "of five retrieved history items" if key.history == "retrieved" else "of the five latest history items"
    lines = [
        f"# Table 3: {'stand-in for the human study' if turnout is None else 'human study'}, {', '.join(map(get_name, methods))}",
        "",
        *([STAND_IN, ""] if turnout is None else []),
        f"Made by `make study-results`{' with `--stand-in`' if turnout is None else ''}. Profile `{key.profile}`, data set `{key.dataset}`, "
        f"seed {key.seed}, study `{key.study}`. Mean rank, 1 is the best. In brackets: {LEVEL:.0%} intervals, bootstrap over "
        f"{'cases' if turnout is None else 'participants and cases (crossed)'}, {NUM_RESAMPLES:,} resamples. Per.: what this user would click, "
        f"{shown}; Sem.: how well the meaning of the reference is kept, where the catalogue's own picture (ORI) is the reference and no candidate.",
        "",
        *(describe_turnout(turnout) if turnout else []),
        *build_table(["", *(column.title for column in columns)], [build_row(method, columns) for method in methods]),
        f"Cases: {describe_counts(columns)}.",
        "",
        *build_tests(columns),
        *build_pairs(columns),
        *build_strengths(methods, columns),
        *build_power(columns),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def describe_turnout(turnout: Turnout) -> list[str]:
    """Say how many ballots count, and what is known of how they were filled in."""
    return [
        f"Ballots that count: {turnout.num_counted}; set aside for failed attention checks: {turnout.num_inattentive}; refused files: "
        f"{turnout.num_refused} (`not_counted.csv`). Median time {turnout.minutes:.0f} min. The picture shown first was put first in "
        f"{turnout.first_shown:.0%} of the answers; {turnout.first_expected:.0%} if the place on the screen does not matter.",
        "",
    ]


def describe_counts(columns: Sequence[Column]) -> str:
    """Say over how many cases each column is."""
    return ", ".join(f"{column.title} {column.num_cases}" for column in columns)


def build_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [
        f"|{'|'.join(f' {name} ' if name else ' ' for name in heading)}|",
        f"|---|{'---:|' * (len(heading) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def build_row(method: str, columns: Sequence[Column]) -> list[str]:
    """Return a method's row: its mean ranks, the best of a column in bold, a slash where it is no candidate."""
    cells = [get_name(method)]
    for column in columns:
        if method not in column.means:
            cells.append("/")
            continue
        interval = column.means[method]
        best = min(own.value for own in column.means.values())
        text = f"{interval.value:.2f}"
        cells.append((f"**{text}**" if interval.value == best else text) + format_bounds(interval))
    return cells


def format_bounds(interval: Interval, *, signed: bool = False) -> str:
    """Write an interval in brackets; nothing where there is none."""
    if interval.low is None or interval.high is None:
        return ""
    low, high = (f"{bound:{'+' if signed else ''}.2f}".replace("-", "−") for bound in (interval.low, interval.high))
    return f" ({low} … {high})"


def format_number(value: float | None, digits: int = 2) -> str:
    """Write a number; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def format_p(p: float | None) -> str:
    """Write a p-value: three digits, or that it is smaller."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def build_tests(columns: Sequence[Column]) -> list[str]:
    """Return the tests that all methods are alike, and how far participants agree."""
    rows = []
    for column in columns:
        for blocks, test in (("participants", column.by_participants), ("cases", column.by_cases)):
            rows.append([column.title, f"{test.num_blocks} {blocks}", *describe_test(test)])
    agreed = [f"{column.title} {format_number(column.agreement.correlation)}" for column in columns if column.agreement.num_cases]
    note = (
        "Blocks are participants (each one's mean ranks over the cases) or cases, and a test speaks of its own blocks alone: of other participants "
        "and these cases, or of other cases and these participants. Kendall's W: 1 if all blocks order the methods alike, 0 if each does so "
        "differently. Of two methods Friedman's test is the sign test."
    )
    agreement = f"Agreement between participants about the same case, as the mean rank correlation of two of them: {', '.join(agreed)} (0: none)."
    heading = ["", "blocks", "test", "statistic", "p", "W"]
    return ["## All methods alike?", "", *build_table(heading, rows), note, "", *([agreement, ""] if agreed else [])]


def describe_test(test: Overall) -> list[str]:
    """Return the cells of an overall test."""
    return [test.test, format_number(test.statistic), format_p(test.p), format_number(test.w)]


def build_pairs(columns: Sequence[Column]) -> list[str]:
    """Return the table of pairs."""
    adjusted = adjust_pairs(columns)
    rows = []
    for column in columns:
        for pair in column.pairs:
            difference = f"{pair.difference.value:+.2f}".replace("-", "−") + format_bounds(pair.difference, signed=True)
            p_holm = adjusted.get((column.title, pair.first, pair.second))
            name = f"{column.title}: {get_name(pair.first)} and {get_name(pair.second)}"
            rows.append([name, difference, f"{pair.share_before:.0%}", *map(format_p, (pair.p_participants, pair.p_cases, pair.p_crossed, p_holm))])
    note = (
        "Difference in mean rank, first minus second: below zero the first is better. Before: how often the first stands before the second. p: "
        "paired sign flips over participants, over cases, and min F' over both at once. Holm's correction is of the largest of the three, over all "
        f"{len(adjusted)} tests."
    )
    heading = ["", "difference", "before", "p, participants", "p, cases", "p, crossed", "p, Holm"]
    return ["## Pairs", "", *build_table(heading, rows), note, ""]


def build_strengths(methods: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Return the table of strengths."""
    rows = [[get_name(method), *(format_strength(column.strengths.get(method)) for column in columns)] for method in methods]
    note = (
        "Plackett-Luce: the share of questions in which a method's picture would come first, by all places and not by first places alone. "
        f"Intervals as above, of {NUM_REFITS} resamples."
    )
    return ["## Strengths", "", *build_table(["", *(column.title for column in columns)], rows), note, ""]


def format_strength(strength: Interval | None) -> str:
    """Write a strength with its interval; a dash where a method is no candidate."""
    return "–" if strength is None else format_number(strength.value) + format_bounds(strength)


def build_power(columns: Sequence[Column]) -> list[str]:
    """Return the table of power, a column for every number of participants; nothing where they were no sample."""
    of_pair: dict[str, dict[int, str]] = {}
    for column in columns:
        for power in column.powers:
            name = f"{column.title}: {get_name(power.first)} better than {get_name(power.second)}"
            of_pair.setdefault(name, {})[power.num_participants] = format_number(power.power)
    if not of_pair:
        return []
    sizes = sorted({size for found in of_pair.values() for size in found})
    rows = [[name, *(found[size] for size in sizes)] for name, found in of_pair.items()]
    note = "How often a study of n participants would find the difference (p < 0.05, Holm), participants and cases drawn anew from these ballots."
    return ["## Power", "", *build_table(["n", *map(str, sizes)], rows), note, ""]


def list_figures(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return a row for every method of every column."""
    return [
        {
            **name_column(column), "method": method, "mean_rank": interval.value, "low": blank(interval.low), "high": blank(interval.high),
            "strength": strength.value, "strength_low": blank(strength.low), "strength_high": blank(strength.high),
            "participants": column.num_participants, "cases": column.num_cases,
        }
        for column in columns
        for method, interval in column.means.items()
        for strength in [column.strengths[method]]
    ]  # fmt: skip


def list_pairs(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return a row for every pair of every column."""
    adjusted = adjust_pairs(columns)
    return [
        {
            **name_column(column), "first": pair.first, "second": pair.second, "difference": pair.difference.value,
            "low": blank(pair.difference.low), "high": blank(pair.difference.high), "share_before": pair.share_before,
            "p_participants": blank(pair.p_participants), "p_cases": blank(pair.p_cases), "p_crossed": blank(pair.p_crossed),
            "p_holm": blank(adjusted.get((column.title, pair.first, pair.second))),
        }
        for column in columns
        for pair in column.pairs
    ]  # fmt: skip


def list_powers(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return a row for every size and rival of every column."""
    return [
        {**name_column(column), "participants": power.num_participants, "first": power.first, "second": power.second, "power": power.power}
        for column in columns
        for power in column.powers
    ]


def name_column(column: Column) -> dict[str, str]:
    """Return the cells that say of which column a row is; people have no name."""
    return {"task": column.task.name, "rater": column.rater}


def blank(value: float | None) -> float | str:
    """Return an empty cell for what is not there."""
    return "" if value is None else value
