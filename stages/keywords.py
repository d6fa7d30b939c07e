"""Stage `keywords`: a language model names a few visual keywords of each item."""

from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table
from pipeline.fingerprint import compute_fingerprint
from pipeline.keywords.extract import KeywordsConfig, extract_keywords
from pipeline.models.llm import prepare_language_model
from pipeline.params import load_params
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, ITEMS, KEYWORDS
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    items: Path = typer.Option(...),
    captions: Path = typer.Option(...),
    out: Path = typer.Option(...),
    params: Path = Path("params.yaml"),
) -> None:
    """Write the keywords of each item, and the items that have none."""
    config = load_params(params, "keywords", KeywordsConfig)
    llm = prepare_language_model(params, resolve_device(load_runtime(params)))
    with extract_keywords(read_table(items, ITEMS, columns=["text"]), read_table(captions, CAPTIONS), config, llm=llm) as result:
        write_outcome(
            "keywords",
            out / "keywords.parquet",
            lambda: result.iterate("item_id"),
            KEYWORDS,
            rejected=result.rejected,
            summary=result.summary,
            max_fraction=config.max_rejected_fraction,
            provenance=build_provenance("keywords", params=compute_fingerprint(config), language_model=llm.revision, dtype=str(llm.dtype)),
        )


if __name__ == "__main__":
    run_stage(app)
