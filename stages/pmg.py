"""Stage `pmg`: keywords of every user's taste, and PMG's soft preference embeddings, trained on training users."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table, write_tensors
from pipeline.baselines.frozen import prepare_diffusion
from pipeline.baselines.pmg.config import PmgConfig
from pipeline.baselines.pmg.fit import CURVE_COLUMNS, STAGE
from pipeline.baselines.pmg.keywords import read_words
from pipeline.baselines.pmg.run import run_pmg
from pipeline.fingerprint import compute_fingerprint
from pipeline.models.llm import prepare_language_model
from pipeline.params import read_section
from pipeline.rows import Summary
from pipeline.schemas import CAPTIONS, CASES, ITEMS, KEYWORDS, PMG_PREFERENCES
from pipeline.training_run import open_training, write_training
from stages.entry import PARAMS, Needed, run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(cases: Needed, items: Needed, captions: Needed, keywords: Needed, out: Needed, params: Path = PARAMS) -> None:
    """Write preferences.parquet, the trained module, its metrics, its curve, what it cost, and the cases without keywords."""
    started = time.monotonic()
    config, seed, device, checkpoint_every = open_training(params, STAGE, PmgConfig)
    llm, diffusion = prepare_language_model(params, device), prepare_diffusion(params, device)
    case_table, item_table = read_table(cases, CASES), read_table(items, ITEMS)
    words = read_words(item_table, read_table(captions, CAPTIONS), read_table(keywords, KEYWORDS))
    splits = read_section(params, "generation.splits")
    shared = {"llm": llm, "diffusion": diffusion, "seed": seed, "checkpoint_every": checkpoint_every}
    result = run_pmg(case_table, item_table, words, config, drawn_splits=splits, **shared)
    facts = {"language_model": f"{llm.revision} {llm.dtype}", "diffusion": diffusion.revision, "params": compute_fingerprint(config), "seed": seed}
    write_tensors(out / "soft.safetensors", result.tensors, facts)
    metrics = {**result.metrics, "seed": seed}
    write_training(out, metrics=metrics, curves=result.curves, columns=CURVE_COLUMNS, seconds=result.seconds, device=device)
    write_outcome(
        STAGE,
        out / "preferences.parquet",
        result.rows,
        PMG_PREFERENCES,
        rejected=result.rejected,
        summary=Summary(result.num_drawn, result.num_drawn, 0, len(result.rejected), time.monotonic() - started),
        max_fraction=config.max_rejected_fraction,
        provenance=build_provenance(STAGE, num_soft=config.num_soft if config.use_soft else 0, **facts),
    )


if __name__ == "__main__":
    run_stage(app)
