"""Made results of runs, in which every figure is known: a world says how good each method of each run is."""

from __future__ import annotations

from collections.abc import Callable

from experiments.catalogue import EXPERIMENTS, Experiment, Group, list_runs
from experiments.claim_rules import Evidence
from experiments.names import (
    GLOBAL,
    IMAGE_PROMPT,
    INVERSION,
    INVERSION_RETRIEVED,
    KEYWORD_ONLY,
    MAIN,
    ORACLE,
    ORIGINAL,
    PMG,
    PMG_RETRIEVED,
    RECONSTRUCTION,
    RETRIEVED,
    STYLE,
    TEXT_ONLY,
    TRUTH,
)
from experiments.results import RunResult
from experiments.runs import DEFAULT, Point, Run
from pipeline.metrics.definitions import Metric, define_metrics

METHODS = (ORIGINAL, TEXT_ONLY, KEYWORD_ONLY, RETRIEVED, INVERSION, INVERSION_RETRIEVED, PMG, PMG_RETRIEVED, GLOBAL, MAIN, TRUTH)
OF_ARTISTS = (IMAGE_PROMPT, ORACLE, RECONSTRUCTION)  # drawn in the artists' runs alone
METRICS = {metric.name: metric for metric in define_metrics("effnet")}
Quality = Callable[[str, str, str], float]  # run, method, metric -> 0 (bad) to 1 (good)
SAME_AS_OTHERS = {"strength-target": "strength-40"}  # the names of one run
SAME_AS_DEFAULT = ("ret", "k-5", "r-3", "keywords-weighted", "global-all", "text-text+category", "image-text-0.7")
OTHER = Run("k-7", ("retrieval.k=7",))
SMALL = Experiment("small", "A <small> title", "One thing & another.", (Group("k", (Point("5", DEFAULT), Point("7", OTHER)), axis="k"),), (STYLE,))
K_QUALITY = {"k-0": 0.4, "k-1": 0.6, "k-3": 0.8, "k-7": 0.85, "k-10": 0.7, "k-19": 0.6}


def make_result(run: Run, quality: Quality, *, num_users: int = 200, seed: int | None = None, perceptual: str = "effnet") -> RunResult:
    """Make a run's result: a user's value is the quality (or its distance from 1) plus one of five small steps."""
    if seed is None:
        seed = next((int(override.removeprefix("seed=")) for override in run.overrides if override.startswith("seed=")), 0)
    by_user = {
        method: {
            name: {f"u{user:04d}": place(quality(run.name, method, name), metric) + 0.001 * (user % 5) for user in range(num_users)}
            for name, metric in METRICS.items()
        }
        for method in (*METHODS, *(OF_ARTISTS if run.name.startswith("artists") else ()))
    }
    return RunResult(f"ragar-{run.name}-0000000000", "embedded", perceptual, seed, 50, 0.95, METRICS, by_user)


def place(quality: float, metric: Metric) -> float:
    return 1.0 - quality if metric.higher_is_better is False else quality


def good(run: str, method: str, metric: str) -> float:
    """Give the quality in a world where every claim holds."""
    if metric.startswith("concept"):
        return 0.9
    if method != MAIN:
        given = {RETRIEVED: 0.4, INVERSION_RETRIEVED: 0.31, PMG_RETRIEVED: 0.34, IMAGE_PROMPT: 0.45, ORACLE: 0.93, RECONSTRUCTION: 0.95}
        return {ORIGINAL: 0.1, TEXT_ONLY: 0.2, KEYWORD_ONLY: 0.3, INVERSION: 0.3, PMG: 0.35, GLOBAL: 0.5, TRUTH: 1.0, **given}[method]
    if "unreflected" in run:
        return 0.7
    if run.startswith("artists-words"):
        return 0.6
    return {**K_QUALITY, "exp-ret": 0.6, "random": 0.4, "alpha-0": 0.8}.get(run, 0.95 if run == DEFAULT.name and metric == STYLE else 0.9)


def bad(run: str, method: str, metric: str) -> float:
    """Give the quality in a world where no claim holds: everything is alike, but reflection made it worse and a plain prompt is better.

    Of the artists' runs the judge is blurred, the oracle is below it, RAGAR is far below the oracle, and the thing is lost.
    """
    if run.startswith("artists"):
        if metric.startswith("concept"):
            return 0.9 if method == RECONSTRUCTION else 0.5
        return {MAIN: 0.2, INVERSION_RETRIEVED: 0.3, ORACLE: 0.4, RECONSTRUCTION: 0.55, TRUTH: 0.6}.get(method, 0.25)
    if metric.startswith("concept") and method in (KEYWORD_ONLY, RETRIEVED):
        return 0.9
    return 0.7 if run.startswith("unreflected") or method == RETRIEVED else 0.5


def make_evidence(quality: Quality, *, num_users: int = 200, share: float | None = 1.0, seconds: float = 40.0) -> Evidence:
    """Make the results of all runs, with the facts of the default run."""
    results = {run.name: make_result(run, quality, num_users=num_users) for run in list_runs(EXPERIMENTS)}
    results |= dict.fromkeys(SAME_AS_DEFAULT, results[DEFAULT.name])
    return Evidence(results, share, {stage: {0: seconds, 1: seconds / 2} for stage in ("ranker", "reflection")})


def make_small(values: dict[str, list[float]], *, seeds: tuple[int, int] = (0, 0)) -> dict[str, RunResult]:
    """Make two runs with a style accuracy per user, given in order."""
    results = {}
    for (run, own), seed in zip(values.items(), seeds, strict=True):
        users = {f"u{i}": value for i, value in enumerate(own)}
        results[run] = RunResult(f"ragar-{run}-0000000000", "embedded", "effnet", seed, 100, 0.95, METRICS, {"ragar": {STYLE: users}})
    return results
