"""Stage `preference`: the top keywords of the relevant history, the two prompts made of them, and the look of the history's pictures."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer

from pipeline.artifacts import build_provenance, read_table, write_table
from pipeline.data.texts import read_item_texts
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import write_json
from pipeline.keywords.preference import PreferenceBuilder, PreferenceConfig, build_preferences
from pipeline.models.folders import compute_model_revision
from pipeline.models.references import read_reference
from pipeline.models.text_budget import load_text_budget
from pipeline.params import load_params
from pipeline.retrieval.config import RetrievalConfig
from pipeline.rows import Summary
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, KEYWORDS, LOOKS, PREFERENCES, RETRIEVED
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    cases: Path = typer.Option(...),
    retrieved: Path = typer.Option(...),
    keywords: Path = typer.Option(...),
    items: Path = typer.Option(...),
    captions: Path = typer.Option(...),
    embeddings: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write w', the text of E^g and p_g of each case, the cases that have none, and in how many a title was shortened for the text encoder.

    Also write each case's look tokens; none where `preference.visual_tokens` is 0.
    """
    started = time.monotonic()
    config = load_params(params, "preference", PreferenceConfig)
    case_table = read_table(cases, CASES)
    tables = {
        "items": read_table(items, ITEMS, columns=["text"]),
        "captions": read_table(captions, CAPTIONS),
        "retrieved": read_table(retrieved, RETRIEVED),
    }
    budget = load_text_budget(read_reference(params, "diffusion"))
    builder = PreferenceBuilder(config, keywords=read_table(keywords, KEYWORDS), budget=budget, **tables)
    rows, rejected = build_preferences(case_table, builder)
    num_cases = len(case_table)
    looks, facts = find_looks(case_table, tables, embeddings, config, params=params) if config.visual_tokens else ([], {})
    write_json(out / "metrics.json", {"num_cases": num_cases, "num_cut": builder.num_cut, **({"num_looks": len(looks)} if facts else {})})
    provenance = build_provenance("preference", params=compute_fingerprint(config.describe()))
    write_table(out / "looks.parquet", looks or LOOKS.build_empty(), LOOKS, provenance={**provenance, **facts})
    write_outcome(
        "preference",
        out / "preferences.parquet",
        rows,
        PREFERENCES,
        rejected=rejected,
        summary=Summary(num_cases, num_cases, 0, len(rejected), time.monotonic() - started),
        max_fraction=config.max_rejected_fraction,
        provenance=provenance,
    )


def find_looks(
    cases: pa.Table, tables: dict[str, pa.Table], embeddings: Path, config: PreferenceConfig, *, params: Path
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Build the rows of the looks, and name the models behind them."""
    # late: these load torch models, which words alone do without
    from pipeline.looks.run import LookBuilder, build_looks
    from pipeline.models.diffusion import load_diffusion
    from pipeline.models.look import prepare_look_map
    from pipeline.runtime import load_runtime, resolve_device

    look, reference = prepare_look_map(params), read_reference(params, "diffusion")
    builder = LookBuilder(
        config,
        read_table(embeddings, EMBEDDINGS),
        read_item_texts(tables["items"], tables["captions"]),
        center=load_params(params, "retrieval", RetrievalConfig).center,
        look=look.model,
        diffusion=load_diffusion(reference, device=resolve_device(load_runtime(params))),
    )
    return build_looks(cases, tables["retrieved"], builder), {"look": look.revision, "diffusion": compute_model_revision(reference)}


if __name__ == "__main__":
    run_stage(app)
