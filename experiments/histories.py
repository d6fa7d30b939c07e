"""Figure 2 as the paper has it, an analysis of the data: what a recommender learns of a user from each part of the history.

`python -m experiments.histories`, after a run. MICRO, the ranker, is trained on k items of every user's history and nothing else: the k most
similar to the reference (Ret), the next k (Exp-Ret), k random ones (Random), or all of it beside them. No image is drawn. (`make fig2` draws with
each of the parts.) Choices where the paper is silent:
1. What is ranked is what a test user really wanted, the truth, where the data set knows it: StyleMoji's users never like their references. Else it
   is the reference.
2. Candidates are all items but the user's whole history, for every part alike, or 99 of them.
3. A seed is one of MICRO's weights and batches, and of the random items; users and data stay the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import typer

from experiments.entry import OUT, find_root, run_app
from experiments.names import NDCG, RECALL, SAMPLED_NDCG, SAMPLED_RECALL
from experiments.runs import SEEDS
from pipeline.artifacts import read_table
from pipeline.files import write_bytes
from pipeline.metrics.definitions import Metric, define_metrics
from pipeline.metrics.intervals import Interval, compute_nested_interval
from pipeline.metrics.protocol import CUTOFF, NUM_NEGATIVES
from pipeline.metrics.ranking import compute_ndcg, compute_recall
from pipeline.params import load_params
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import read_data, train_ranker
from pipeline.ranker.interactions import RankedCase, RankerData
from pipeline.ranker.scoring import build_scorer
from pipeline.report.figures import format_interval, format_value
from pipeline.retrieval.config import RetrievalConfig
from pipeline.retrieval.history import retrieve_histories
from pipeline.runtime import RuntimeConfig, load_runtime, resolve_device
from pipeline.schemas import CASES, EMBEDDINGS, INTERACTIONS
from pipeline.spreadsheets import write_csv
from pipeline.terminal import say

PAGE = OUT / "fig2-data.md"
CSV_COLUMNS = ("history", "metric", "value", "low", "high", "n", "difference", "difference_low", "difference_high")
WHOLE, FIRST = "whole history", "Ret"
PARTS = {FIRST: "ret", "Exp-Ret": "exp-ret", "Random": "random", WHOLE: None}  # by the name of its row: the strategy of the stage retrieval
METRICS = (RECALL, NDCG, SAMPLED_RECALL, SAMPLED_NDCG)
Values = dict[tuple[Hashable, Hashable], float]  # by (seed, user)

app = typer.Typer(add_completion=False)


def choose_interactions(
    interactions: pa.Table, cases: pa.Table, embeddings: pa.Table, config: RetrievalConfig, strategy: str | None, *, seed: int
) -> pa.Table:
    """Return the interactions of one part of every user's history, in the history's order; all of them without a strategy."""
    if strategy is None:
        return interactions
    rows, _ = retrieve_histories(cases, embeddings, replace(config, strategy=strategy), seed=seed)
    user_of = dict(zip(cases["case_id"].to_pylist(), cases["user_id"].to_pylist(), strict=True))
    kept = {(user_of[row["case_id"]], row["item_id"]) for row in rows}
    pairs = zip(interactions["user_id"].to_pylist(), interactions["item_id"].to_pylist(), strict=True)
    return interactions.filter(pa.array([pair in kept for pair in pairs], type=pa.bool_()))


def list_targets(cases: pa.Table, known: Sequence[str]) -> list[RankedCase]:
    """List what is ranked for the test users: the truth, or without one the reference; only items that the ranker knows."""
    items, targets = set(known), []
    for case in cases.to_pylist():
        target = case["truth_id"] or case["reference_id"]
        if case["split"] == "test" and target in items:
            targets.append(RankedCase(case["case_id"], case["user_id"], target, tuple(case["history"])))
    return targets


def rank_targets(data: RankerData, targets: Sequence[RankedCase], config: RankerConfig, runtime: RuntimeConfig, *, seed: int) -> dict[str, Values]:
    """Train on the data, rank the targets, and return each metric by (seed, user)."""
    trained = train_ranker(
        data, config, seed=seed, device=resolve_device(runtime), checkpoint_every=runtime.checkpoint_every, stage="ranker_histories"
    )
    scorer = build_scorer(
        trained.model.state_dict(),
        data.features,
        data.train_P2,
        config=config,
        user_ids=data.user_ids,
        item_ids=data.item_ids,
        image_feature=config.image_feature,
    )
    users, items, histories = ([getattr(target, name) for target in targets] for name in ("user_id", "reference_id", "history"))
    negatives = scorer.draw_negatives([target.case_id for target in targets], items, exclude=histories, count=NUM_NEGATIVES, seed=0)
    found: dict[str, Values] = {}
    for names, drawn in (((RECALL, NDCG), None), ((SAMPLED_RECALL, SAMPLED_NDCG), negatives)):
        rank_B1 = scorer.rank_original(users, items, exclude=histories, negatives=drawn)[:, None]
        for name, compute in zip(names, (compute_recall, compute_ndcg), strict=True):
            found[name] = {(seed, user): value for user, value in zip(users, compute(rank_B1, k=CUTOFF).tolist(), strict=True)}
    return found


def measure_parts(root: Path, params: Path) -> dict[str, dict[str, Values]]:
    """Return the metrics of every part over all seeds, from the tables of a finished run."""
    tables = (read_table(root / "dataset" / "interactions.parquet", INTERACTIONS), read_table(root / "dataset" / "cases.parquet", CASES))
    embeddings = read_table(root / "embedding" / "embeddings.parquet", EMBEDDINGS)
    ranker, retrieval, runtime = load_params(params, "ranker", RankerConfig), load_params(params, "retrieval", RetrievalConfig), load_runtime(params)
    measured: dict[str, dict[str, Values]] = {}
    for name, strategy in PARTS.items():
        values: dict[str, Values] = {metric: {} for metric in METRICS}
        for seed in SEEDS:
            chosen = choose_interactions(*tables, embeddings, retrieval, strategy, seed=seed)
            data = read_data(chosen, tables[1], embeddings, config=ranker)
            found = rank_targets(data, list_targets(tables[1], data.item_ids), ranker, runtime, seed=seed)
            for metric in METRICS:
                values[metric] |= found[metric]
        measured[name] = values
        say(f"fig2-data: {name} ({len(SEEDS)} seeds)")
    return measured


def summarise(measured: Mapping[str, Mapping[str, Values]]) -> Iterator[tuple[str, str, Interval, Interval | None]]:
    """Yield (part, metric, mean, difference to the retrieved items or None), with intervals over seeds and users."""
    for name, values in measured.items():
        for metric in METRICS:
            own, first = values[metric], measured[FIRST][metric]
            difference = None if name == FIRST else compute_nested_interval({key: own[key] - first[key] for key in own}, seed=0)
            yield name, metric, compute_nested_interval(own, seed=0), difference


def build_page(summary: Sequence[tuple[str, str, Interval, Interval | None]], *, k: int, num_users: int) -> str:
    """Write the page."""
    metric_of = {metric.name: metric for metric in define_metrics("effnet")}
    head = f"| | {' | '.join(f'{metric_of[name].title} ↑' for name in METRICS)} |\n|---|{'---:|' * len(METRICS)}"
    means = {(name, metric): mean for name, metric, mean, _ in summary}
    differences = {(name, metric): difference for name, metric, _, difference in summary if difference}
    lines = [
        "# Figure 2, the data: what a recommender learns from each part of the history",
        "",
        f"MICRO trained on {k} items of every user's history: the most similar to the reference (Ret), the next {k} (Exp-Ret), {k} random ones "
        "(Random), or on all of it. Ranked is what the test users really wanted, among all items but their whole histories or, `1+99`, among 99 "
        "of them. No image is drawn.",
        "",
        f"Made by `make fig2-data` from the tables of `make repro`: {num_users} test users, training seeds {', '.join(map(str, SEEDS))}. In "
        "brackets: 95% intervals, bootstrap over seeds and users, 2000 resamples.",
        "",
        head,
        *(format_row(name, means, metric_of) for name in PARTS),
        "",
        "Differences to Ret, paired by seed and user; **bold** where the interval excludes zero:",
        "",
        head,
        *(format_row(name, differences, metric_of, signed=True) for name in PARTS if name != FIRST),
    ]
    return "\n".join(lines) + "\n"


def format_row(name: str, figures: Mapping[tuple[str, str], Interval], metric_of: Mapping[str, Metric], *, signed: bool = False) -> str:
    """Write a row of figures with their intervals."""
    cells = []
    for metric in METRICS:
        figure = figures[name, metric]
        text = format_value(figure.value, metric_of[metric], signed=signed)
        is_sure = signed and figure.low is not None and figure.high is not None and not figure.low <= 0 <= figure.high
        cells.append(f"{f'**{text}**' if is_sure else text} ({format_interval(asdict(figure), metric_of[metric], signed=signed)})")
    return f"| {name} | {' | '.join(cells)} |"


def list_rows(summary: Sequence[tuple[str, str, Interval, Interval | None]]) -> Iterator[dict[str, object]]:
    """Yield the figures as they stand in the CSV."""
    for name, metric, mean, difference in summary:
        row: dict[str, object] = {"history": name, "metric": metric, **asdict(mean)}
        if difference is not None:
            row |= {"difference": difference.value, "difference_low": difference.low, "difference_high": difference.high}
        yield row


@app.command()
def main(data: Path = Path("data"), params: Path = Path("params.yaml")) -> None:
    """Train MICRO on each part of the histories, and write the page and its CSV."""
    root = find_root()
    measured = measure_parts(data, params)
    summary = list(summarise(measured))
    num_users = len({user for _, user in measured[FIRST][RECALL]})
    page = build_page(summary, k=load_params(params, "retrieval", RetrievalConfig).k, num_users=num_users)
    write_bytes(root / PAGE, page.encode())
    write_csv((root / PAGE).with_suffix(".csv"), list_rows(summary), CSV_COLUMNS)
    say(f"fig2-data: {PAGE.as_posix()}")


if __name__ == "__main__":
    run_app(app)
