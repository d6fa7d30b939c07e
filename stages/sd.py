"""Stage `sd`: tune Stable Diffusion with LoRA on what training users looked at; with `lora_rank: 0`, the default, there is nothing to do."""

import functools
import time
from pathlib import Path

import pyarrow as pa
import torch
import typer

from pipeline.artifacts import read_table, write_csv, write_json, write_tensors
from pipeline.baselines.sd.config import StableDiffusionConfig
from pipeline.baselines.sd.fit import CURVE_COLUMNS, STAGE, TextedImage, tune
from pipeline.cost import describe_training
from pipeline.data.texts import read_item_texts
from pipeline.fingerprint import compute_fingerprint
from pipeline.latents import compute_latents
from pipeline.models.denoising import Denoiser, choose_training_dtype
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.references import read_reference
from pipeline.params import load_params, load_seed
from pipeline.randomness import make_generator
from pipeline.rows import Summary
from pipeline.runtime import load_runtime, print_summary, resolve_device
from pipeline.schemas import CAPTIONS, CASES, ITEMS
from stages.entry import run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(
    cases: Path = typer.Option(...),
    items: Path = typer.Option(...),
    captions: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write lora.safetensors (empty where nothing is tuned), its metrics, its curve and its cost."""
    started = time.monotonic()
    config, seed, runtime = load_params(params, STAGE, StableDiffusionConfig), load_seed(params), load_runtime(params)
    device = resolve_device(runtime)
    reference, dtype = read_reference(params, "diffusion"), choose_training_dtype(device)
    revision = f"{compute_model_revision(reference)} {dtype}"
    tensors: dict[str, torch.Tensor] = {}
    curves, seconds, num_images = [], 0.0, 0
    if config.lora_rank:
        load = functools.cache(lambda: load_diffusion(resolve_model(reference), device=device, dtype=dtype))
        case_table = read_table(cases, CASES)
        texts = read_item_texts(read_table(items, ITEMS, columns=["text"]), read_table(captions, CAPTIONS))
        parts = {split: list_items(case_table, split) for split in ("train", "val")}
        latents, _ = compute_latents(items, [*parts["train"], *parts["val"]], load_diffusion=load, revision=revision)
        train, validation = (
            [TextedImage(name, latents[name], texts[name]) for name in part if name in latents and name in texts] for part in parts.values()
        )
        if not train or not validation:
            raise ValueError("no training or no validation user has looked at an image with a text, so there is nothing to tune on.")
        order = torch.randperm(len(validation), generator=make_generator(seed, STAGE, "validation")).tolist()
        validation = [validation[index] for index in sorted(order[: config.validation_images])]
        described = [(image.item_id, image.text, image.latent_Chw.numpy().tobytes()) for image in (*train, *validation)]
        fingerprint = compute_fingerprint(STAGE, config, revision, seed, len(train), described)
        state = tune(train, validation, config, Denoiser(load()), fingerprint=fingerprint, seed=seed, checkpoint_every=runtime.checkpoint_every)
        tensors, curves, seconds, num_images = dict(state.weights), state.curves, state.clock.seconds, len(train)
    losses = [row["validation_loss"] for row in curves if "validation_loss" in row]
    metrics = {"validation_loss_before": losses[0], "validation_loss": losses[-1]} if losses else {}
    write_tensors(out / "lora.safetensors", tensors, {"diffusion": revision, "params": compute_fingerprint(config), "seed": seed})
    write_json(out / "metrics.json", {**metrics, "num_images": num_images, "lora_rank": config.lora_rank, "seed": seed})
    write_csv(out / "curves.csv", curves, CURVE_COLUMNS)
    write_json(out / "cost.json", describe_training(seconds, device))
    print_summary(STAGE, Summary(num_images, num_images, 0, 0, time.monotonic() - started))


def list_items(cases: pa.Table, split: str) -> list[str]:
    """List the history items of a split's cases, each once, in order."""
    return sorted({item_id for case in cases.to_pylist() if case["split"] == split for item_id in case["history"]})


if __name__ == "__main__":
    run_stage(app)
