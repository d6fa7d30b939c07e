"""Stage `ti`, one instance per method: learn pseudo-words for what is drawn (Textual Inversion).

`ti` learns one per user from the images of the whole history, `ti_retrieved` one per case from the retrieved images alone.
"""

from dataclasses import asdict, replace
from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table
from pipeline.baselines.histories import name_method, narrow_histories
from pipeline.baselines.ti.config import CURVE_COLUMNS, STAGE, RetrievedInversionConfig, TextualInversionConfig
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import write_json
from pipeline.params import load_params, read_flag, read_section
from pipeline.rows import Summary
from pipeline.schemas import CAPTIONS, CASE_PSEUDO_WORDS, CASES, ITEMS, PSEUDO_WORDS, RETRIEVED
from pipeline.spreadsheets import write_csv
from stages.entry import PARAMS, Needed, run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(cases: Needed, items: Needed, captions: Needed, out: Needed, retrieved: Path | None = None, params: Path = PARAMS) -> None:
    """Write vectors.parquet, its metrics, its curve, and the users (or cases) that have no readable image.

    Nothing is learned unless `comparison.ti` asks for it, or `comparison.ti_retrieved` where the retrieved items are given.
    """
    method = name_method(STAGE, retrieved)
    if read_flag(params, f"comparison.{method}"):
        learn(cases, items, captions, out, retrieved=retrieved, params=params)
        return
    write_json(out / "metrics.json", {"num_users": 0})
    write_csv(out / "curves.csv", [], CURVE_COLUMNS)
    nothing = {"rejected": {}, "summary": Summary(0, 0, 0, 0, 0.0), "max_fraction": 0.0, "provenance": build_provenance(method)}
    table = CASE_PSEUDO_WORDS if retrieved else PSEUDO_WORDS
    write_outcome(method, out / "vectors.parquet", table.build_empty(), table, **nothing)


def learn(cases: Path, items: Path, captions: Path, out: Path, *, retrieved: Path | None, params: Path) -> None:
    """Learn and write the vectors."""
    # late: these load torch, which an empty table does without
    from pipeline.baselines.frozen import prepare_diffusion
    from pipeline.baselines.ti.run import build_curves, build_vectors, gather_inputs, learn_vectors, summarise
    from pipeline.cost import keep_cost, summarise_rows
    from pipeline.data.texts import read_item_texts
    from pipeline.training_run import open_training

    config, seed, device, checkpoint_every = open_training(params, STAGE, TextualInversionConfig)
    method, table, case_table = name_method(STAGE, retrieved), PSEUDO_WORDS, read_table(cases, CASES)
    if retrieved:
        config = replace(config, **asdict(load_params(params, method, RetrievedInversionConfig)))
        table, case_table = CASE_PSEUDO_WORDS, narrow_histories(case_table, read_table(retrieved, RETRIEVED))
    (owner,) = table.key
    diffusion = prepare_diffusion(params, device)
    texts = read_item_texts(read_table(items, ITEMS, columns=["text"]), read_table(captions, CAPTIONS))
    inputs = gather_inputs(case_table, items, texts, read_section(params, "generation.splits"), diffusion=diffusion, owner=owner)
    result = learn_vectors(inputs, config, diffusion=diffusion, device=device, seed=seed, checkpoint_every=checkpoint_every)
    facts = {"diffusion": diffusion.revision, "params": compute_fingerprint(config), "seed": seed}
    write_json(out / "metrics.json", summarise(result, seed=seed))
    write_csv(out / "curves.csv", build_curves(result, config), CURVE_COLUMNS)
    write_outcome(
        method,
        out / "vectors.parquet",
        lambda: build_vectors(result, owner=owner),
        table,
        rejected=result.rejected,
        summary=result.summary,
        max_fraction=config.max_rejected_fraction,
        provenance=build_provenance(method, **facts, num_vectors=config.num_vectors, template=config.template),
    )
    keep_cost(out / "vectors.parquet", summarise_rows(result.values.values(), device))


if __name__ == "__main__":
    run_stage(app)
