"""Stage `ti`: learn a pseudo-word per user from the history's images (Textual Inversion), for the users whose cases are drawn."""

import functools
from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table, write_csv, write_json
from pipeline.baselines.ti.config import TextualInversionConfig
from pipeline.baselines.ti.fit import STAGE
from pipeline.baselines.ti.run import CURVE_COLUMNS, InversionInputs, build_curves, build_vectors, learn_vectors, list_histories, summarise
from pipeline.cost import summarise_rows
from pipeline.data.texts import read_item_texts
from pipeline.fingerprint import compute_fingerprint
from pipeline.latents import compute_latents
from pipeline.models.denoising import choose_training_dtype
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.references import read_reference
from pipeline.params import load_params, load_seed, read_section
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, CASES, ITEMS, PSEUDO_WORDS
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    cases: Path = typer.Option(...),
    items: Path = typer.Option(...),
    captions: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write vectors.parquet, its metrics, its curve, what it cost, and the users that have no readable image."""
    config, seed, runtime = load_params(params, STAGE, TextualInversionConfig), load_seed(params), load_runtime(params)
    device = resolve_device(runtime)
    reference, dtype = read_reference(params, "diffusion"), choose_training_dtype(device)
    revision = f"{compute_model_revision(reference)} {dtype}"
    load = functools.cache(lambda: load_diffusion(resolve_model(reference), device=device, dtype=dtype))

    histories = list_histories(read_table(cases, CASES), read_section(params, "generation.splits"))
    seen = [item_id for history in histories.values() for item_id in history]
    latents, _ = compute_latents(items, seen, load_diffusion=load, revision=revision)
    texts = read_item_texts(read_table(items, ITEMS, columns=["text"]), read_table(captions, CAPTIONS))
    result = learn_vectors(
        InversionInputs(histories, texts, latents),
        config,
        load_diffusion=load,
        revision=revision,
        device=device,
        seed=seed,
        checkpoint_every=runtime.checkpoint_every,
    )
    write_json(out / "metrics.json", summarise(result, seed=seed))
    write_csv(out / "curves.csv", build_curves(result, config), CURVE_COLUMNS)
    write_json(out / "cost.json", summarise_rows(result.values.values(), device))
    write_outcome(
        STAGE,
        out / "vectors.parquet",
        lambda: build_vectors(result),
        PSEUDO_WORDS,
        rejected=result.rejected,
        summary=result.summary,
        max_fraction=config.max_rejected_fraction,
        provenance=build_provenance(
            STAGE, diffusion=revision, params=compute_fingerprint(config), seed=seed, num_vectors=config.num_vectors, template=config.template
        ),
    )


if __name__ == "__main__":
    run_stage(app)
