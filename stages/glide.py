"""Stage `glide`: tune GLIDE's base model on what training users looked at; with `glide.tuning.num_steps: 0`, the default, there is nothing to do."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import read_table, write_tensors
from pipeline.baselines.glide.config import CURVE_COLUMNS, STAGE, GlideTuning
from pipeline.cost import keep_cost
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import write_json
from pipeline.params import load_params, load_seed
from pipeline.rows import Summary
from pipeline.runtime import print_summary
from pipeline.schemas import CAPTIONS, CASES, ITEMS
from pipeline.spreadsheets import write_csv
from stages.entry import PARAMS, Needed, run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(cases: Needed, items: Needed, captions: Needed, out: Needed, params: Path = PARAMS) -> None:
    """Write base.safetensors, its metrics and its curve; all are empty where nothing is tuned."""
    started = time.monotonic()
    config, seed = load_params(params, "glide.tuning", GlideTuning), load_seed(params)
    facts, num_images = {"params": compute_fingerprint(config), "seed": seed}, 0
    if config.num_steps:
        num_images = tune(cases, items, captions, out, params=params, facts=facts)
    else:
        write_tensors(out / "base.safetensors", {}, facts)
        write_json(out / "metrics.json", {"num_images": 0, "seed": seed})
        write_csv(out / "curves.csv", [], CURVE_COLUMNS)
        keep_cost(out / "base.safetensors", {"seconds": 0.0, "peak_memory_mb": None})
    print_summary(STAGE, Summary(num_images, num_images, 0, 0, time.monotonic() - started))


def tune(cases: Path, items: Path, captions: Path, out: Path, *, params: Path, facts: dict[str, object]) -> int:
    """Train and write the base model; return the number of images that it was trained on."""
    # late: these load torch, which nothing to do does without
    from pipeline.baselines.glide.run import prepare_glide, run_glide
    from pipeline.data.texts import read_item_texts
    from pipeline.training_run import open_training, write_training

    config, seed, device, checkpoint_every = open_training(params, "glide.tuning", GlideTuning)
    glide = prepare_glide(params, device)
    texts = read_item_texts(read_table(items, ITEMS, columns=["text"]), read_table(captions, CAPTIONS))
    result = run_glide(read_table(cases, CASES), items, texts, config, glide=glide, seed=seed, checkpoint_every=checkpoint_every)
    made = out / "base.safetensors"
    write_tensors(made, result.tensors, {**facts, "glide": glide.revision})
    metrics = {**result.metrics, "seed": seed}
    write_training(made, metrics=metrics, curves=result.curves, columns=CURVE_COLUMNS, seconds=result.seconds, device=device)
    return result.metrics["num_images"]


if __name__ == "__main__":
    run_stage(app)
