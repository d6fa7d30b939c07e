"""Stage `embedding`: CLIP and ViT vectors of each item."""

from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table
from pipeline.embedding import EmbeddingConfig, Encoders, embed_items, iterate_vectors
from pipeline.fingerprint import compute_fingerprint
from pipeline.models.encoders import load_clip, load_visual
from pipeline.models.folders import compute_model_revision
from pipeline.models.lazy import LazyModel
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import load_params, read_section
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, EMBEDDINGS, ITEMS
from pipeline.table_images import ImageColumn
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    items: Path = typer.Option(...), captions: Path = typer.Option(...), out: Path = typer.Option(...), params: Path = Path("params.yaml")
) -> None:
    """Write one row of semantic, visual and CLIP image vectors per item, and what cannot be embedded."""
    config = load_params(params, "embedding", EmbeddingConfig)
    device = resolve_device(load_runtime(params))
    names = {role: read_reference(params, role) for role in ("clip", "visual")}
    revisions = {role: compute_model_revision(name) for role, name in names.items()}
    dtype_name = read_section(params, "models.dtype")
    options = {"device": device, "dtype": parse_dtype(dtype_name, device)}

    def load() -> Encoders:
        clip = load_clip(names["clip"], **options)
        return Encoders(clip, clip if names["visual"] == names["clip"] else load_visual(names["visual"], **options))

    item_table, images = read_table(items, ITEMS, columns=["image_sha256", "text", "category"]), ImageColumn(items)
    encoders = LazyModel(f"{revisions['clip']} {revisions['visual']} {dtype_name}", load)
    with embed_items(item_table, images, read_table(captions, CAPTIONS), config, encoders=encoders) as result:
        facts = {"params": compute_fingerprint(config), "dtype": dtype_name}
        described = {**names, "revisions": list(revisions.values())}
        write_outcome(
            "embedding",
            out / "embeddings.parquet",
            lambda: iterate_vectors(result),
            EMBEDDINGS,
            rejected=result.rejected,
            summary=result.summary,
            max_fraction=config.max_rejected_fraction,
            provenance=build_provenance("embedding", **facts, **described),
        )


if __name__ == "__main__":
    run_stage(app)
