"""Stage `dataset`: one adapter a data set makes the same tables of items, interactions and cases."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, write_json, write_table
from pipeline.data.dataset import build_dataset, summarise
from pipeline.ledger import Summary
from pipeline.params import hash_params, load_seed, read_section
from pipeline.runtime import print_summary
from pipeline.schemas import CASES, INTERACTIONS, ITEMS, LABELS
from stages.entry import run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(extra: Path = typer.Option(...), out: Path = typer.Option(...), params: Path = Path("params.yaml")) -> None:
    """Write items, interactions, cases and (where known) labels; `extra` is a folder of further item images."""
    started = time.monotonic()
    seed = load_seed(params)
    dataset = build_dataset(params, extra, seed=seed)
    provenance = build_provenance("dataset", params=hash_params(read_section(params, "dataset")), seed=seed)
    write_table(out / "items.parquet", dataset.items, ITEMS, provenance=provenance)
    write_table(out / "interactions.parquet", dataset.interactions, INTERACTIONS, provenance=provenance)
    write_table(out / "cases.parquet", dataset.cases, CASES, provenance=provenance)
    write_table(out / "labels.parquet", dataset.labels, LABELS, provenance=provenance)
    write_json(out / "summary.json", summarise(dataset))
    num_items = len(dataset.items)
    print_summary("dataset", Summary(num_items, num_items, 0, 0, time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
