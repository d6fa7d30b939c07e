"""Stage `retrieval`: find the history items that resemble the reference, and weight them."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import write_json
from pipeline.params import load_params, load_seed
from pipeline.retrieval.config import RetrievalConfig
from pipeline.retrieval.history import retrieve_histories
from pipeline.retrieval.measure import measure_retrieval
from pipeline.rows import Summary
from pipeline.schemas import CASES, EMBEDDINGS, ITEMS, RETRIEVED
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    cases: Path = typer.Option(...),
    embeddings: Path = typer.Option(...),
    items: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write one row per case and rank with the retrieved item, its similarity and its weight; the rejected cases; and measures."""
    started = time.monotonic()
    config, seed = load_params(params, "retrieval", RetrievalConfig), load_seed(params)
    case_table = read_table(cases, CASES)
    rows, rejected = retrieve_histories(case_table, read_table(embeddings, EMBEDDINGS), config, seed=seed)
    metrics = measure_retrieval(rows, case_table, read_table(items, ITEMS, columns=["category"]), seed=seed)
    num_cases = len(case_table)
    write_json(out / "metrics.json", {"k": config.k, "strategy": config.strategy, "seed": seed, **metrics})
    write_outcome(
        "retrieval",
        out / "retrieved.parquet",
        rows,
        RETRIEVED,
        rejected=rejected,
        summary=Summary(num_cases, num_cases, 0, len(rejected), time.monotonic() - started),
        max_fraction=config.max_rejected_fraction,
        provenance=build_provenance("retrieval", params=compute_fingerprint(config), seed=seed),
    )


if __name__ == "__main__":
    run_stage(app)
