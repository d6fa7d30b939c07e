"""Stage `ranker`: train MICRO on the histories; it is the reward of the reflection and a metric of the evaluation."""

import time
from pathlib import Path

import pyarrow as pa
import typer

from pipeline.artifacts import read_table, write_csv, write_json
from pipeline.ledger import Summary, open_ledger
from pipeline.params import load_params, load_seed
from pipeline.ranker.fit import CURVE_COLUMNS, RankerConfig, compute_fingerprint, measure_ranker, read_data, train_ranker
from pipeline.ranker.scoring import load_ranker, save_ranker
from pipeline.runtime import load_runtime, print_summary, resolve_device
from pipeline.schemas import CASES, EMBEDDINGS, INTERACTIONS, ITEMS
from stages.entry import run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(
    interactions: Path = typer.Option(...),
    cases: Path = typer.Option(...),
    embeddings: Path = typer.Option(...),
    out: Path = typer.Option(...),
    items: Path | None = None,
    params: Path = Path("params.yaml"),
) -> None:
    """Write the trained ranker, its R@10 and N@10, and its training curves; `items` restricts the catalogue to that table."""
    started = time.monotonic()
    config, runtime, seed = load_params(params, "ranker", RankerConfig), load_runtime(params), load_seed(params)
    device = resolve_device(runtime)
    catalogue = read_table(items, ITEMS) if items else None
    tables = (read_table(interactions, INTERACTIONS), read_table(cases, CASES), read_table(embeddings, EMBEDDINGS))
    data = read_data(*tables, config=config, items=catalogue)
    fingerprint = compute_fingerprint(data, config, seed=seed)
    with open_ledger("ranker", fingerprint, pa.schema([])):
        trained = train_ranker(data, config, seed=seed, device=device, fingerprint=fingerprint, checkpoint_every=runtime.checkpoint_every)
    path = out / "ranker.safetensors"
    ids = {"user_ids": data.user_ids, "item_ids": data.item_ids, "image_feature": config.image_feature}
    save_ranker(path, trained.model, data.features, **ids)
    metrics = measure_ranker(trained, load_ranker(path, device=device), data, seed=seed)
    write_json(out / "metrics.json", metrics)
    write_csv(out / "curves.csv", trained.training.curves, CURVE_COLUMNS)
    num_pairs = len(data.train_P2) + len(data.validation_P2)
    print(f"ranker: best epoch {metrics['best_epoch']} of {metrics['epochs']}, {metrics.get('validation', 'no validation items')}", flush=True)
    print_summary("ranker", Summary(num_pairs + data.num_left_out, num_pairs, 0, data.num_left_out, time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
