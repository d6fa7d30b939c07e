"""Stage `mapper`: align [IMG] vectors and modal mapper with the diffusion model's text space, on captions of interacted items."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import read_table
from pipeline.conditioning.config import CalibratorConfig, MapperConfig
from pipeline.conditioning.fit import CURVE_COLUMNS, STAGE
from pipeline.conditioning.mapper import save_mapper
from pipeline.conditioning.run import choose_lessons, run_mapper
from pipeline.keywords.preference import PreferenceConfig
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision
from pipeline.models.llm import prepare_language_model
from pipeline.models.references import read_reference
from pipeline.models.text_budget import load_text_budget
from pipeline.params import load_params
from pipeline.retrieval.config import RetrievalConfig
from pipeline.rows import Summary
from pipeline.runtime import print_summary
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, KEYWORDS
from pipeline.training_run import open_training, write_training
from stages.entry import PARAMS, Needed, run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(cases: Needed, items: Needed, captions: Needed, keywords: Needed, embeddings: Needed, out: Needed, params: Path = PARAMS) -> None:
    """Write mapper.safetensors (weights and [IMG] vectors), its metrics, its curves and its cost."""
    started = time.monotonic()
    config, seed, device, checkpoint_every = open_training(params, STAGE, MapperConfig)
    tables = ((cases, CASES), (items, ITEMS), (captions, CAPTIONS), (keywords, KEYWORDS), (embeddings, EMBEDDINGS))
    reference = read_reference(params, "diffusion")
    lessons = choose_lessons(
        {table.name: read_table(path, table) for path, table in tables},
        config,
        retrieval=load_params(params, "retrieval", RetrievalConfig),
        preference=load_params(params, "preference", PreferenceConfig),
        seed=seed,
        budget=load_text_budget(reference),
    )
    result = run_mapper(
        lessons,
        config,
        load_params(params, "calibrator", CalibratorConfig),
        llm=prepare_language_model(params, device),
        diffusion=load_diffusion(reference, device=device),
        diffusion_revision=compute_model_revision(reference),
        seed=seed,
        checkpoint_every=checkpoint_every,
    )
    training, num = result.training, len(lessons.prompted)
    save_mapper(out / "mapper.safetensors", training.mapper, training.img_vectors_LD, result.facts, calibrator=result.calibrator)
    write_training(
        out / "mapper.safetensors", metrics=result.metrics, curves=result.curves, columns=CURVE_COLUMNS, seconds=result.seconds, device=device
    )
    print_summary(STAGE, Summary(num, num, 0, 0, time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
