"""Write metric values for people and decide which is best: shared by the summary table and the charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.metrics.definitions import Metric

OWN_IMAGES = ("original", "truth")  # methods that show an item's own image
BOUNDS = {  # methods that are never the best, but the frame of the table: they copy a picture or read the answer
    "original": "floor",
    "truth": "ceiling",
    "reconstruction": "bound of the autoencoder",
    "oracle": "bound of the look",
}
ORDER = (
    "original",
    "sd",
    "keywords",
    "retrieved",
    "ip_adapter",
    "ti",
    "ti_retrieved",
    "glide",
    "lavit",
    "pmg",
    "pmg_retrieved",
    "global",
    "ragar_words",
    "ragar_before",
    "ragar_last",
    "ragar_no_rank",
    "ragar",
    "oracle",
    "reconstruction",
    "truth",
)
EXPLANATIONS = {
    "original": "the reference itself",
    "truth": "what the user wanted",
    "reconstruction": "what the user wanted, through the autoencoder",
    "oracle": "reference and the look of five pictures in the style of what the user wanted",
    "sd": "the reference's text alone",
    "keywords": "reference and the whole history's keywords",
    "retrieved": "reference and the retrieved items' keywords",
    "ip_adapter": "reference and the look of the last five pictures",
    "ti": "reference and a word learned from the history's images",
    "ti_retrieved": "reference and a word learned from the retrieved images",
    "glide": "reference's text alone, another generator",
    "lavit": "reference's text and picture, newest pictures, another generator",
    "pmg": "keywords of the taste, soft embeddings, best of several",
    "pmg_retrieved": "the same, taste read from the retrieved items",
    "global": "the global preference alone",
    "ragar_words": "the same without look tokens",
    "ragar_before": "the same without reflection",
    "ragar_last": "the same with the weights of reflection's last step",
    "ragar_no_rank": "the same, reflection without the rank reward",
    "ragar": "retrieval, calibration, reflection",
}
TITLES = {
    "sd": "SD",
    "keywords": "SD + keywords",
    "retrieved": "SD + retrieved",
    "ip_adapter": "IP-Adapter",
    "ti": "TI",
    "ti_retrieved": "TI + retrieved",
    "glide": "GLIDE",
    "lavit": "LaVIT",
    "pmg": "PMG",
    "pmg_retrieved": "PMG + retrieved",
    "ragar_words": "RAGAR, words alone",
    "ragar_before": "RAGAR, before reflection",
    "ragar_last": "RAGAR, last step",
    "ragar_no_rank": "RAGAR, no rank reward",
    "ragar": "RAGAR",
}
Entry = Mapping[str, Any]  # value, low, high, n


def sort_methods(methods: Sequence[str]) -> list[str]:
    """Return the methods in reading order: floor, the others, ceiling; unknown ones stand before the main method."""
    place = {name: index for index, name in enumerate(ORDER)}
    return sorted(methods, key=lambda name: (place.get(name, place["ragar"] - 0.5), name))


def order_columns(methods: Sequence[str], main_method: str) -> list[str]:
    """Return the methods as the page's columns: the main one, the others that draw, then those that show an item's own image."""
    return sorted(sort_methods(methods), key=lambda name: (name in BOUNDS, name != main_method))


def get_role(method: str, main_method: str) -> str:
    """Return the CSS class of a method: bound, main or drawn."""
    return "bound" if method in BOUNDS else "main" if method == main_method else "drawn"


def get_title(method: str) -> str:
    """Return how a method is written."""
    return TITLES.get(method, method)


def format_value(value: float | None, metric: Metric, *, signed: bool = False) -> str:
    """Write a value with its metric's scale and digits; a dash if there is none."""
    if value is None:
        return "–"
    text = f"{value * metric.scale:{'+' if signed else ''}.{metric.digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−") + metric.unit


def format_interval(entry: Entry, metric: Metric, *, signed: bool = False) -> str:
    """Write an interval without its unit, e.g. `12.3 … 14.5`; empty if there is none."""
    if entry["low"] is None or entry["high"] is None:
        return ""
    low, high = (format_value(entry[name], metric, signed=signed).removesuffix(metric.unit or "\0") for name in ("low", "high"))
    return f"{low} … {high}"


def find_best(entries: Mapping[str, Entry], metric: Metric) -> set[str]:
    """Return the drawn methods with the best value as written, none if all tie; floor and ceiling never count."""
    values = {name: entry["value"] for name, entry in entries.items() if name not in BOUNDS and entry["value"] is not None}
    if metric.higher_is_better is None or len(values) < 2:
        return set()
    best = (max if metric.higher_is_better else min)(values.values())
    chosen = {name for name, value in values.items() if format_value(value, metric) == format_value(best, metric)}
    return chosen if len(chosen) < len(values) else set()


def judge_difference(entry: Entry, metric: Metric) -> str:
    """Return `win` or `loss` if the paired interval excludes zero in the good or bad direction, else nothing."""
    if entry["low"] is None or metric.higher_is_better is None or entry["low"] <= 0 <= entry["high"]:
        return ""
    return "win" if (entry["low"] > 0) == metric.higher_is_better else "loss"
