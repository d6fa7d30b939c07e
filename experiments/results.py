"""The scores of a finished run, averaged by user: what tables, plots and claims are made from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.names import DISTANCE, DISTANCE_PERSONAL, DISTANCE_SEMANTIC
from experiments.seconds import read_stage_seconds
from experiments.store import Fetch
from pipeline.artifacts import read_table
from pipeline.cost import find_cost
from pipeline.data.openmoji import is_held_out
from pipeline.evaluation.summary import group_by_user
from pipeline.json_files import read_json
from pipeline.metrics.definitions import Metric, define_metrics
from pipeline.metrics.intervals import Interval, compute_mean_interval, compute_nested_interval, compute_paired_interval
from pipeline.params import read_section
from pipeline.schemas import CASES, LABELS, SCORES

SCORES_FILE, SUMMARY_FILE, PARAMS_FILE = "data/evaluation/scores.parquet", "data/evaluation/summary.json", "params.yaml"
CASES_FILE, LABELS_FILE = "data/dataset/cases.parquet", "data/dataset/labels.parquet"
STYLEMOJI = "stylemoji"
TUNED, MAPPED = "data/sd/lora.safetensors", "data/mapper/mapper.safetensors"
TRAINED_BY = {  # what a method's own trained stages make
    "sd": (TUNED,),
    "keywords": (TUNED,),
    "retrieved": (TUNED,),
    "glide": ("data/glide/base.safetensors",),
    "ti": ("data/ti/ti/vectors.parquet",),
    "ti_retrieved": ("data/ti/ti_retrieved/vectors.parquet",),
    "pmg": ("data/pmg/pmg/soft.safetensors",),
    "pmg_retrieved": ("data/pmg/pmg_retrieved/soft.safetensors",),
    "ragar": (MAPPED, "data/reflection/calibrator.safetensors"),
}
OWN_METRICS = {  # by method: what its own training says of itself
    "ti": "data/ti/ti/metrics.json",
    "ti_retrieved": "data/ti/ti_retrieved/metrics.json",
    "pmg": "data/pmg/pmg/metrics.json",
    "pmg_retrieved": "data/pmg/pmg_retrieved/metrics.json",
}
DISTANCES = (DISTANCE, DISTANCE_PERSONAL, DISTANCE_SEMANTIC)
ByUser = dict[Hashable, float]


@dataclass(frozen=True)
class Cost:
    """What a method cost; None where the run did not record it."""

    is_trained: bool
    training_seconds: float | None  # of all users together
    seconds_per_image: float | None
    peak_memory_mb: float | None  # of training or drawing
    machine: str
    grows_with_users: bool = False  # whether the training goes user by user


@dataclass(frozen=True)
class RunResult:
    """One run's scores by method, metric and user, and how they were made."""

    experiment: str  # the DVC experiment's name
    profile: str
    perceptual: str  # the model behind the distances
    seed: int
    num_resamples: int
    level: float
    metrics: dict[str, Metric]
    by_user: dict[str, dict[str, ByUser]]
    dataset: str = ""
    costs: dict[str, Cost] = field(default_factory=dict)  # by method
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)  # a method's own metrics: of its training and of its drawing
    assignment_p: dict[str, float] = field(default_factory=dict)  # by method: of the permutation test of whose image is whose
    seeds: tuple[int, ...] = ()  # of the runs that were pooled; then users are (seed, user)
    tests: dict[str, list[float]] = field(default_factory=dict)  # the same p-values of pooled runs, one a seed
    held_out_share: float | None = None  # of the test users' truths, those that no model was trained on (StyleMoji)
    stage_seconds: dict[str, float] = field(default_factory=dict)  # by the clock, of the stages that were computed on this machine

    def get_metric(self, name: str) -> Metric:
        """Return what a column means; ValueError if the evaluation does not know it."""
        column = name.replace("distance_", f"{self.perceptual}_") if name in DISTANCES else name
        if column not in self.metrics:
            raise ValueError(f"{self.experiment}: the evaluation defines no metric {column!r} (pipeline/metrics/definitions.py).")
        return self.metrics[column]

    def get_users(self, method: str, metric: str) -> ByUser:
        """Return the values of a method by user, none where the scores lack that column or method."""
        return self.by_user.get(method, {}).get(self.get_metric(metric).name, {})

    def average(self, method: str, metric: str) -> Interval:
        """Return the mean over users with its interval."""
        return self.compute_interval(self.get_users(method, metric))

    def compute_interval(self, by_user: ByUser) -> Interval:
        """Return the mean of values by user with its interval; of pooled runs over seeds and users."""
        return (compute_nested_interval if self.seeds else compute_mean_interval)(by_user, **self.list_knobs())

    def compare_users(self, first: ByUser, second: ByUser) -> Interval:
        """Return the mean of first - second over the users that have both, with its interval."""
        return self.compute_interval({user: first[user] - second[user] for user in first.keys() & second.keys()})

    def list_knobs(self) -> dict[str, Any]:
        """Return the bootstrap's parameters; they are the evaluation's own, so that its intervals come out again."""
        return {"seed": self.seed, "num_resamples": self.num_resamples, "level": self.level}


def read_result(experiment: str, fetch: Fetch) -> RunResult:
    """Read a run's scores and summary."""
    summary = read_json(fetch(SUMMARY_FILE))
    metrics = define_metrics(summary["perceptual"])
    scores = read_table(fetch(SCORES_FILE), SCORES)
    dataset = str(read_section(fetch(PARAMS_FILE), "dataset.name"))
    return RunResult(
        experiment=experiment,
        profile=summary["profile"],
        perceptual=summary["perceptual"],
        seed=summary["seed"],
        num_resamples=summary["interval"]["num_resamples"],
        level=summary["interval"]["level"],
        metrics={metric.name: metric for metric in metrics},
        by_user=group_by_user(scores, tuple(metric for metric in metrics if metric.name in scores.column_names)),
        dataset=dataset,
        costs={method: read_cost(method, fetch) for method in summary["methods"]},
        assignment_p={
            method: entries["assignment_p"]["value"]
            for method, entries in summary["methods"].items()
            if entries.get("assignment_p", {}).get("value") is not None
        },
        trainings={method: read_own_metrics(method, fetch) for method in OWN_METRICS if method in summary["methods"]},
        held_out_share=read_held_out_share(fetch) if dataset == STYLEMOJI else None,
        stage_seconds=read_stage_seconds(experiment, fetch),
    )


def read_held_out_share(fetch: Fetch) -> float | None:
    """Work out which share of the test users' truths is held out from all model training."""
    cases, labels = read_table(fetch(CASES_FILE), CASES), read_table(fetch(LABELS_FILE), LABELS)
    return compute_held_out_share(cases.to_pylist(), labels.to_pylist())


def compute_held_out_share(cases: Sequence[dict[str, Any]], labels: Sequence[dict[str, Any]]) -> float | None:
    """Return the share of test cases with a truth that no model was trained on; None without any truth."""
    style_of = {row["item_id"]: row["style"] for row in labels}
    truths = [case["truth_id"] for case in cases if case["split"] == "test" and case["truth_id"] in style_of]
    if not truths:
        return None
    return sum(is_held_out(truth.rsplit("-", 1)[0], style_of[truth]) for truth in truths) / len(truths)


def read_cost(method: str, fetch: Fetch) -> Cost:
    """Find what a method's drawing and its own training cost on this machine, where they were made on it."""
    drawing = find_cost(fetch(f"data/generation/{method}/generated.parquet")) or {}
    training = [find_cost(fetch(path)) or {} for path in TRAINED_BY.get(method, ())]
    seconds = [cost.get("seconds") for cost in training]
    is_trained = any(value != 0 for value in seconds)  # sd is not tuned by default
    peaks = [cost.get("peak_memory_mb") for cost in ((drawing, *training) if is_trained else (drawing,))]
    known = [name for name in ("num_threads", "device") if name in drawing]
    return Cost(
        is_trained=is_trained,
        training_seconds=None if None in seconds else sum(seconds),
        seconds_per_image=drawing.get("seconds_per_row"),
        peak_memory_mb=max((peak for peak in peaks if peak is not None), default=None),
        machine="–" if not known else write_threads(drawing["num_threads"]) if "num_threads" in drawing else drawing["device"],
        grows_with_users=any("num_rows" in cost for cost in training),
    )


def write_threads(count: int) -> str:
    """Write on how many threads something was computed."""
    return f"{count} thread{'s' if count > 1 else ''}"


def read_own_metrics(method: str, fetch: Fetch) -> dict[str, Any]:
    """Read what a baseline's own training and drawing say of themselves."""
    return {**read_json(fetch(OWN_METRICS[method])), **read_json(fetch(f"data/generation/{method}/metrics.json"))}


def compare(first: tuple[RunResult, str], second: tuple[RunResult, str], metric: str) -> Interval | None:
    """Return first - second, (run, method) each, paired by user; None for runs of different seeds, whose users are different people."""
    (first_run, first_method), (second_run, second_method) = first, second
    if first_run.seed != second_run.seed:
        return None
    users = first_run.get_users(first_method, metric), second_run.get_users(second_method, metric)
    return compute_paired_interval(*users, **first_run.list_knobs())
