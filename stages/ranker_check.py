"""Stage `ranker_check`: the frozen evaluation ranker, another kind of model than the reward, which reads the data set's tables alone."""

import dataclasses
import time
from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table, write_rejected
from pipeline.columns import map_columns
from pipeline.fingerprint import compute_fingerprint
from pipeline.models.encoders import load_visual
from pipeline.models.folders import compute_model_revision
from pipeline.models.lazy import LazyModel
from pipeline.models.references import read_reference
from pipeline.ranker_check.config import CheckConfig
from pipeline.ranker_check.features import encode_items, read_features
from pipeline.ranker_check.material import build_catalogue, build_data
from pipeline.ranker_check.run import run_check
from pipeline.runtime import print_summary
from pipeline.schemas import INTERACTIONS, ITEMS
from pipeline.table_images import ImageColumn
from pipeline.terminal import say
from pipeline.training_run import open_training
from stages.entry import run_stage

app = typer.Typer(add_completion=False)
STAGE, ROLE = "ranker_check", "check_visual"


@app.command()
def main(
    items: Path = typer.Option(...),
    interactions: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write the trained evaluation ranker, its held-out R@10 and N@10, its training curves, and the items whose image cannot be encoded."""
    started = time.monotonic()
    config, _, device, checkpoint_every = open_training(params, STAGE, CheckConfig)  # its seed is its own
    name = read_reference(params, ROLE)
    revision = compute_model_revision(name)
    encoder = LazyModel(revision, lambda: load_visual(name, device=device))  # always float32: models.dtype is the method's
    table = read_table(items, ITEMS, columns=["image_sha256", "category"])
    with encode_items(table, ImageColumn(items), encoder=encoder, batch_size=config.encoding_batch_size) as result:
        catalogue = build_catalogue(*read_features(result), map_columns(table, "item_id", "category"))
    provenance = build_provenance(STAGE, params=compute_fingerprint(config), check_visual=name, revision=revision)
    rejected, limit = result.rejected, config.max_rejected_fraction
    write_rejected(out / "rejected.parquet", STAGE, rejected, rows_in=len(table), max_fraction=limit, provenance=provenance)
    data = build_data(read_table(interactions, INTERACTIONS), catalogue)
    say(f"{STAGE}: {run_check(data, config, out, device=device, checkpoint_every=checkpoint_every)}")
    print_summary(STAGE, dataclasses.replace(result.summary, seconds=time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
