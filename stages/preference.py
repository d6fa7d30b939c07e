"""Stage `preference`: the top keywords of the relevant history, and the two prompts made of them."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import write_json
from pipeline.keywords.preference import PreferenceBuilder, PreferenceConfig, build_preferences
from pipeline.models.references import read_reference
from pipeline.models.text_budget import load_text_budget
from pipeline.params import load_params
from pipeline.rows import Summary
from pipeline.schemas import CAPTIONS, CASES, ITEMS, KEYWORDS, PREFERENCES, RETRIEVED
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    cases: Path = typer.Option(...),
    retrieved: Path = typer.Option(...),
    keywords: Path = typer.Option(...),
    items: Path = typer.Option(...),
    captions: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write w', the text of E^g and p_g of each case, the cases that have none, and in how many a title was shortened for the text encoder."""
    started = time.monotonic()
    config = load_params(params, "preference", PreferenceConfig)
    case_table = read_table(cases, CASES)
    builder = PreferenceBuilder(
        config,
        items=read_table(items, ITEMS, columns=["text"]),
        captions=read_table(captions, CAPTIONS),
        keywords=read_table(keywords, KEYWORDS),
        retrieved=read_table(retrieved, RETRIEVED),
        budget=load_text_budget(read_reference(params, "diffusion")),
    )
    rows, rejected = build_preferences(case_table, builder)
    num_cases = len(case_table)
    write_json(out / "metrics.json", {"num_cases": num_cases, "num_cut": builder.num_cut})
    write_outcome(
        "preference",
        out / "preferences.parquet",
        rows,
        PREFERENCES,
        rejected=rejected,
        summary=Summary(num_cases, num_cases, 0, len(rejected), time.monotonic() - started),
        max_fraction=config.max_rejected_fraction,
        provenance=build_provenance("preference", params=compute_fingerprint(config)),
    )


if __name__ == "__main__":
    run_stage(app)
