"""Stage `ti`: learn a pseudo-word per user from the history's images (Textual Inversion), for the users whose cases are drawn."""

from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table
from pipeline.baselines.ti.config import CURVE_COLUMNS, STAGE, TextualInversionConfig
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import write_json
from pipeline.params import read_flag, read_section
from pipeline.rows import Summary
from pipeline.schemas import CAPTIONS, CASES, ITEMS, PSEUDO_WORDS
from pipeline.spreadsheets import write_csv
from stages.entry import PARAMS, Needed, run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(cases: Needed, items: Needed, captions: Needed, out: Needed, params: Path = PARAMS) -> None:
    """Write vectors.parquet, its metrics, its curve, and the users that have no readable image; nothing is learned unless `comparison.ti` asks."""
    if read_flag(params, f"comparison.{STAGE}"):
        learn(cases, items, captions, out, params=params)
        return
    write_json(out / "metrics.json", {"num_users": 0})
    write_csv(out / "curves.csv", [], CURVE_COLUMNS)
    nothing = {"rejected": {}, "summary": Summary(0, 0, 0, 0, 0.0), "max_fraction": 0.0, "provenance": build_provenance(STAGE)}
    write_outcome(STAGE, out / "vectors.parquet", PSEUDO_WORDS.build_empty(), PSEUDO_WORDS, **nothing)


def learn(cases: Path, items: Path, captions: Path, out: Path, *, params: Path) -> None:
    """Learn and write the vectors."""
    # late: these load torch, which an empty table does without
    from pipeline.baselines.frozen import prepare_diffusion
    from pipeline.baselines.ti.run import build_curves, build_vectors, gather_inputs, learn_vectors, summarise
    from pipeline.cost import keep_cost, summarise_rows
    from pipeline.data.texts import read_item_texts
    from pipeline.training_run import open_training

    config, seed, device, checkpoint_every = open_training(params, STAGE, TextualInversionConfig)
    diffusion = prepare_diffusion(params, device)
    texts = read_item_texts(read_table(items, ITEMS, columns=["text"]), read_table(captions, CAPTIONS))
    inputs = gather_inputs(read_table(cases, CASES), items, texts, read_section(params, "generation.splits"), diffusion=diffusion)
    result = learn_vectors(inputs, config, diffusion=diffusion, device=device, seed=seed, checkpoint_every=checkpoint_every)
    facts = {"diffusion": diffusion.revision, "params": compute_fingerprint(config), "seed": seed}
    write_json(out / "metrics.json", summarise(result, seed=seed))
    write_csv(out / "curves.csv", build_curves(result, config), CURVE_COLUMNS)
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
    keep_cost(out / "vectors.parquet", summarise_rows(result.values.values(), device))


if __name__ == "__main__":
    run_stage(app)
