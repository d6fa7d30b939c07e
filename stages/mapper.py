"""Stage `mapper`: align [IMG] vectors and modal mapper with the diffusion model's text space, on captions of interacted items."""

import time
from dataclasses import asdict
from pathlib import Path

import typer

from pipeline.artifacts import read_table, write_csv, write_json
from pipeline.conditioning.fit import CURVE_COLUMNS, MapperConfig, build_captions, choose_captions, fit_mapper, summarise_fit
from pipeline.conditioning.mapper import save_mapper
from pipeline.ledger import Summary
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.llm import prepare_language_model
from pipeline.models.references import read_reference
from pipeline.params import hash_params, load_params, load_seed
from pipeline.runtime import load_runtime, print_summary, resolve_device
from pipeline.schemas import CAPTIONS, INTERACTIONS
from stages.entry import run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(
    captions: Path = typer.Option(...),
    interactions: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write mapper.safetensors (weights and [IMG] vectors), its metrics and its curves."""
    started = time.monotonic()
    config, seed, runtime = load_params(params, "mapper", MapperConfig), load_seed(params), load_runtime(params)
    device = resolve_device(runtime)
    reference, llm = read_reference(params, "diffusion"), prepare_language_model(params, device)
    revision = compute_model_revision(reference)
    caption_of = {row["item_id"]: row["caption"] for row in read_table(captions, CAPTIONS).to_pylist()}
    item_ids = read_table(interactions, INTERACTIONS)["item_id"].unique().to_pylist()

    chosen = choose_captions(caption_of, item_ids, config, seed=seed)
    caption_set = build_captions(chosen, load_diffusion(resolve_model(reference), device=device), config)
    state = fit_mapper(caption_set, config, llm=llm, diffusion_revision=revision, device=device, seed=seed, checkpoint_every=runtime.checkpoint_every)
    facts = {"language_model": llm.revision, "diffusion": revision, "params": hash_params(config), "seed": seed}
    save_mapper(out / "mapper.safetensors", state.mapper, state.img_vectors_LD, {**facts, "prompt_format": asdict(config.prompt_format)})
    write_json(out / "metrics.json", {**summarise_fit(state, caption_set), "seed": seed})
    write_csv(out / "curves.csv", state.curves, CURVE_COLUMNS)
    print_summary("mapper", Summary(len(chosen), len(chosen), 0, 0, time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
