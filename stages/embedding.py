"""Stage `embedding`: CLIP and ViT vectors of each item."""

from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table
from pipeline.embedding import EmbeddingConfig, Encoders, build_embeddings, embed_items
from pipeline.models.encoders import load_clip, load_visual
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import hash_params, load_params, read_section
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, EMBEDDINGS, ITEMS
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    items: Path = typer.Option(...), captions: Path = typer.Option(...), out: Path = typer.Option(...), params: Path = Path("params.yaml")
) -> None:
    """Write one row of semantic, visual and CLIP image vectors an item, and the items that cannot be embedded."""
    config = load_params(params, "embedding", EmbeddingConfig)
    device = resolve_device(load_runtime(params))
    clip, visual, dtype_name = read_reference(params, "clip"), read_reference(params, "visual"), read_section(params, "models.dtype")
    options = {"device": device, "dtype": parse_dtype(dtype_name, device)}
    revisions = [compute_model_revision(clip), compute_model_revision(visual)]

    def load() -> Encoders:
        encoder = load_clip(resolve_model(clip), **options)
        return Encoders(encoder, encoder if visual == clip else load_visual(resolve_model(visual), **options))

    tables = (read_table(items, ITEMS), read_table(captions, CAPTIONS))
    result = embed_items(*tables, config, load=load, models=(*revisions, str(dtype_name)))
    facts = {"clip": clip, "visual": visual, "revisions": revisions, "dtype": dtype_name}
    write_outcome(
        "embedding",
        out / "embeddings.parquet",
        lambda: build_embeddings(result),
        EMBEDDINGS,
        rejected=result.rejected,
        summary=result.summary,
        max_fraction=config.max_rejected_fraction,
        provenance=build_provenance("embedding", params=hash_params(config), **facts),
    )


if __name__ == "__main__":
    run_stage(app)
