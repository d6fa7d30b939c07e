"""Stage `sd`: tune Stable Diffusion with LoRA on what training users looked at; with `lora_rank: 0`, the default, there is nothing to do."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import read_table, write_tensors
from pipeline.baselines.frozen import prepare_diffusion
from pipeline.baselines.sd.fit import CURVE_COLUMNS, STAGE, StableDiffusionConfig
from pipeline.baselines.sd.run import LoraResult, run_lora
from pipeline.data.texts import read_item_texts
from pipeline.fingerprint import compute_fingerprint
from pipeline.rows import Summary
from pipeline.runtime import print_summary
from pipeline.schemas import CAPTIONS, CASES, ITEMS
from pipeline.training_run import open_training, write_training
from stages.entry import PARAMS, Needed, run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(cases: Needed, items: Needed, captions: Needed, out: Needed, params: Path = PARAMS) -> None:
    """Write lora.safetensors (empty where nothing is tuned), its metrics, its curve and its cost."""
    started = time.monotonic()
    config, seed, device, checkpoint_every = open_training(params, STAGE, StableDiffusionConfig)
    diffusion, result = prepare_diffusion(params, device), LoraResult()
    if config.lora_rank:
        item_table = read_table(items, ITEMS)
        texts = read_item_texts(item_table, read_table(captions, CAPTIONS))
        result = run_lora(read_table(cases, CASES), item_table, texts, config, diffusion=diffusion, seed=seed, checkpoint_every=checkpoint_every)
    facts = {"diffusion": diffusion.revision, "params": compute_fingerprint(config), "seed": seed}
    write_tensors(out / "lora.safetensors", result.tensors, facts)
    metrics = {**result.metrics, "lora_rank": config.lora_rank, "seed": seed}
    write_training(out, metrics=metrics, curves=result.curves, columns=CURVE_COLUMNS, seconds=result.seconds, device=device)
    num = result.metrics["num_images"]
    print_summary(STAGE, Summary(num, num, 0, 0, time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
