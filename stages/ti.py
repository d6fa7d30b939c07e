"""Stage `ti`: learn a pseudo-word a user from the history's images (Textual Inversion), for the users whose cases are drawn."""

from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table, write_csv, write_json
from pipeline.baselines.frozen import prepare_diffusion
from pipeline.baselines.ti.fit import STAGE, TextualInversionConfig
from pipeline.baselines.ti.run import CURVE_COLUMNS, build_curves, build_vectors, gather_inputs, learn_vectors, summarise
from pipeline.cost import summarise_rows
from pipeline.data.texts import read_item_texts
from pipeline.fingerprint import compute_fingerprint
from pipeline.params import read_section
from pipeline.schemas import CAPTIONS, CASES, ITEMS, PSEUDO_WORDS
from pipeline.training_run import open_training
from stages.entry import PARAMS, Needed, run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(cases: Needed, items: Needed, captions: Needed, out: Needed, params: Path = PARAMS) -> None:
    """Write vectors.parquet, its metrics, its curve, what it cost, and the users that have no readable image."""
    config, seed, device, checkpoint_every = open_training(params, STAGE, TextualInversionConfig)
    diffusion, item_table = prepare_diffusion(params, device), read_table(items, ITEMS)
    texts = read_item_texts(item_table, read_table(captions, CAPTIONS))
    inputs = gather_inputs(read_table(cases, CASES), item_table, texts, read_section(params, "generation.splits"), diffusion=diffusion)
    result = learn_vectors(inputs, config, diffusion=diffusion, device=device, seed=seed, checkpoint_every=checkpoint_every)
    facts = {"diffusion": diffusion.revision, "params": compute_fingerprint(config), "seed": seed}
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
        provenance=build_provenance(STAGE, **facts, num_vectors=config.num_vectors, template=config.template),
    )


if __name__ == "__main__":
    run_stage(app)
