"""Is it good? The main method beside every other one in a word: better, worse, no difference seen, too few users to say.

What can only come out one way is not compared: the catalogue's own picture is as like itself as can be, never improves its own rank, and in StyleMoji
never has the style that is liked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.metrics.definitions import Metric, define_metrics
from pipeline.report.figures import BOUNDS, Entry, format_interval, format_value, get_title, judge_difference, order_columns

RIGHT = (("style_accuracy", "drawn in the style that the user likes"), ("concept_accuracy", "show the right thing"))
PLAIN = ("sd", "keywords", "retrieved", "global", "pmg", "ti", "original")  # whom a headline is compared with: the first that there is
OWN = ("original", *PLAIN)
NO_DIFFERENCE, TOO_FEW = "no difference seen", "too few users to say"
WORDS = {"win": "better", "loss": "worse", "": NO_DIFFERENCE}
# by method, metrics whose value holds by definition (`*` stands for the perceptual model), and of these the ones at the end of their scale
BY_DEFINITION = {
    "original": {"delta_r", "log2_rank_gain", "rank_improved", "delta_r_check", "log2_rank_gain_check", "cis", "ssim_sem", "*_sem"},
    "truth": {"cis_truth", "ssim_truth", "*_truth"},
}
ONE_SIDED = {"original": {"rank_improved", "cis", "ssim_sem", "*_sem"}, "truth": {"cis_truth", "ssim_truth", "*_truth"}}


@dataclass(frozen=True)
class Headline:
    """A metric that says whether the pictures are good, in words, and the methods that it is compared with, the first that there is."""

    name: str
    words: str
    rivals: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """A word for a difference; `look` is its CSS class: win, loss, tie or unsure."""

    word: str
    look: str


def list_headlines(summary: dict[str, Any]) -> list[tuple[Metric, Headline]]:
    """Return the headlines that the main method has a value of: those that know the right answer, or what there is without one; then the rankers'."""
    perceptual = summary["perceptual"]
    known = [Headline(name, words, PLAIN) for name, words in RIGHT] + [Headline(f"{perceptual}_truth", "distance from what the user wanted", PLAIN)]
    unknown = [Headline("cpis", "likeness to the history (CPIS)", OWN), Headline("cs", "likeness to the reference's text (CS)", PLAIN)]
    ranked = [Headline("delta_r_check", "rank change ΔR", OWN), Headline("delta_r", "ΔR by the ranker that is the reward", OWN)]
    metrics = {metric.name: metric for metric in define_metrics(perceptual)}
    values = summary["methods"].get(summary["main_method"], {})

    def keep(headlines: list[Headline]) -> list[Headline]:
        return [headline for headline in headlines if values.get(headline.name, {}).get("value") is not None]

    return [(metrics[headline.name], headline) for headline in [*(keep(known) or keep(unknown)), *keep(ranked)]]


def holds_by_definition(method: str, metric: Metric, summary: dict[str, Any]) -> bool:
    """Say whether a method's value is none that was measured."""
    return is_named(metric, BY_DEFINITION.get(method, set()), summary)


def is_comparable(method: str, metric: Metric, summary: dict[str, Any]) -> bool:
    """Say whether a comparison with the method can come out both ways."""
    return metric.higher_is_better is not None and not is_named(metric, ONE_SIDED.get(method, set()), summary)


def is_named(metric: Metric, names: set[str], summary: dict[str, Any]) -> bool:
    """Say whether the metric is one of the names."""
    return metric.name in {name.replace("*", summary["perceptual"]) for name in names}


def judge(entry: Entry, metric: Metric) -> Verdict:
    """Put a paired difference (main method minus another) into a word."""
    if entry["low"] is None:
        return Verdict(TOO_FEW, "unsure")
    outcome = judge_difference(entry, metric)
    return Verdict(WORDS[outcome], outcome or "tie")


def find_difference(summary: dict[str, Any], method: str, metric: Metric) -> Entry | None:
    """Return the paired difference to a method; None if there is none, or if it holds by definition."""
    entry = (summary.get("differences") or {}).get(method, {}).get(metric.name)
    if entry is None or entry["value"] is None or not is_comparable(method, metric, summary):
        return None
    return None if method in BOUNDS and is_at_end(summary["methods"][method][metric.name], metric) else entry


def is_at_end(entry: Entry, metric: Metric) -> bool:
    """Say whether a share is 0 or 1 for every user, so that no other can be worse, or none better: a data set's own pictures are made so."""
    return metric.unit == "%" and entry["value"] in (0.0, 1.0)


def compare_headline(summary: dict[str, Any], metric: Metric, headline: Headline) -> tuple[Verdict, str] | None:
    """Return the word for a headline and the sentence around it; None if there is nothing to compare with."""
    for method in headline.rivals:
        if (entry := find_difference(summary, method, metric)) is not None:
            verdict = judge(entry, metric)
            value = format_value(summary["methods"][method][metric.name]["value"], metric)
            joint = "than" if verdict.look in ("win", "loss") else "beside"
            return verdict, f"{joint} {get_rival_name(method)} ({value})"
    return None


def get_rival_name(method: str) -> str:
    """Return how a sentence calls a method."""
    return {"original": "the catalogue's own picture", "truth": "what the user wanted"}.get(method, get_title(method))


def list_rivals(summary: dict[str, Any]) -> list[str]:
    """Return the methods that the main one is compared with, in the order of columns."""
    return [method for method in order_columns(list(summary.get("differences") or {}), summary["main_method"]) if method != summary["main_method"]]


def describe_difference(entry: Entry, metric: Metric) -> tuple[str, str]:
    """Write a difference and its interval."""
    return format_value(entry["value"], metric, signed=True), format_interval(entry, metric, signed=True)
