"""Stage `pmg`, one instance per method: keywords of every user's taste, and PMG's soft preference embeddings, trained on training users.

`pmg` reads the whole history of every case, `pmg_retrieved` the retrieved items alone.
"""

import time
from dataclasses import asdict, replace
from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table, write_tensors
from pipeline.baselines.histories import name_method, narrow_histories
from pipeline.baselines.pmg.config import CURVE_COLUMNS, STAGE, PmgConfig, RetrievedPmgConfig
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import write_json
from pipeline.params import load_params, read_flag, read_section
from pipeline.rows import Summary
from pipeline.schemas import CAPTIONS, CASES, ITEMS, KEYWORDS, PMG_PREFERENCES, RETRIEVED
from pipeline.spreadsheets import write_csv
from stages.entry import PARAMS, Needed, run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(cases: Needed, items: Needed, captions: Needed, keywords: Needed, out: Needed, retrieved: Path | None = None, params: Path = PARAMS) -> None:
    """Write preferences.parquet, the trained module, its metrics, its curve, and the cases without keywords.

    Nothing is trained unless `comparison.pmg` asks for it, or `comparison.pmg_retrieved` where the retrieved items are given.
    """
    method = name_method(STAGE, retrieved)
    if read_flag(params, f"comparison.{method}"):
        train(cases, items, captions, keywords, out, retrieved=retrieved, params=params)
        return
    write_tensors(out / "soft.safetensors", {})
    write_json(out / "metrics.json", {"train_cases": 0})
    write_csv(out / "curves.csv", [], CURVE_COLUMNS)
    nothing = {"rejected": {}, "summary": Summary(0, 0, 0, 0, 0.0), "max_fraction": 0.0, "provenance": build_provenance(method, num_soft=0)}
    write_outcome(method, out / "preferences.parquet", PMG_PREFERENCES.build_empty(), PMG_PREFERENCES, **nothing)


def train(cases: Path, items: Path, captions: Path, keywords: Path, out: Path, *, retrieved: Path | None, params: Path) -> None:
    """Name the keywords, train the soft embeddings, and write both."""
    # late: these load torch, which an empty table does without
    from pipeline.baselines.frozen import prepare_diffusion
    from pipeline.baselines.pmg.keywords import read_words
    from pipeline.baselines.pmg.run import run_pmg
    from pipeline.models.llm import prepare_language_model
    from pipeline.training_run import open_training, write_training

    started = time.monotonic()
    config, seed, device, checkpoint_every = open_training(params, STAGE, PmgConfig)
    method, case_table = name_method(STAGE, retrieved), read_table(cases, CASES)
    if retrieved:
        config = replace(config, **asdict(load_params(params, method, RetrievedPmgConfig)))
        case_table = narrow_histories(case_table, read_table(retrieved, RETRIEVED))
    llm, diffusion = prepare_language_model(params, device), prepare_diffusion(params, device)
    words = read_words(read_table(items, ITEMS, columns=["text"]), read_table(captions, CAPTIONS), read_table(keywords, KEYWORDS))
    splits = read_section(params, "generation.splits")
    shared = {"llm": llm, "diffusion": diffusion, "seed": seed, "checkpoint_every": checkpoint_every}
    result = run_pmg(case_table, items, words, config, drawn_splits=splits, **shared)
    facts = {"language_model": f"{llm.revision} {llm.dtype}", "diffusion": diffusion.revision, "params": compute_fingerprint(config), "seed": seed}
    made, metrics = out / "soft.safetensors", {**result.metrics, "seed": seed}
    write_tensors(made, result.tensors, facts)
    write_training(made, metrics=metrics, curves=result.curves, columns=CURVE_COLUMNS, seconds=result.seconds, device=device)
    write_outcome(
        method,
        out / "preferences.parquet",
        result.rows,
        PMG_PREFERENCES,
        rejected=result.rejected,
        summary=Summary(result.num_drawn, result.num_drawn, 0, len(result.rejected), time.monotonic() - started),
        max_fraction=config.max_rejected_fraction,
        provenance=build_provenance(method, num_soft=config.num_soft if config.use_soft else 0, **facts),
    )


if __name__ == "__main__":
    run_stage(app)
