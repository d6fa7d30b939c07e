"""Stage `embedding`: CLIP and ViT vectors of each item, and the vectors that only the second ranker sees."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import typer

from pipeline.artifacts import build_provenance, read_table, write_table
from pipeline.embedding import EmbeddingConfig, Encoders, embed_check, embed_items, iterate_vectors
from pipeline.fingerprint import compute_fingerprint
from pipeline.models.encoders import load_clip, load_visual
from pipeline.models.folders import compute_model_revision
from pipeline.models.lazy import LazyModel
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import load_params, read_section
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, CHECK_EMBEDDINGS, EMBEDDINGS, ITEMS
from pipeline.table_images import ImageColumn
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    items: Path = typer.Option(...), captions: Path = typer.Option(...), out: Path = typer.Option(...), params: Path = Path("params.yaml")
) -> None:
    """Write one row of semantic, visual and CLIP image vectors per item, the second ranker's vectors, and what cannot be embedded."""
    config = load_params(params, "embedding", EmbeddingConfig)
    device = resolve_device(load_runtime(params))
    names = {role: read_reference(params, role) for role in ("clip", "visual", "check_visual")}
    revisions = {role: compute_model_revision(name) for role, name in names.items()}
    dtype_name = read_section(params, "models.dtype")
    options = {"device": device, "dtype": parse_dtype(dtype_name, device)}

    def load() -> Encoders:
        clip = load_clip(names["clip"], **options)
        return Encoders(clip, clip if names["visual"] == names["clip"] else load_visual(names["visual"], **options))

    item_table, images = read_table(items, ITEMS, columns=["image_sha256", "text", "category"]), ImageColumn(items)
    encoders = LazyModel(f"{revisions['clip']} {revisions['visual']} {dtype_name}", load)
    encoder = LazyModel(f"{revisions['check_visual']} {dtype_name}", lambda: load_visual(names["check_visual"], **options))
    with embed_items(item_table, images, read_table(captions, CAPTIONS), config, encoders=encoders) as result:
        known = item_table.filter(pc.is_in(item_table["item_id"], pa.array(result.keys, pa.string())))
        with embed_check(known, images, config, encoder=encoder) as check:
            facts = {"params": compute_fingerprint(config), "dtype": dtype_name}
            roles = ("clip", "visual")
            described = {**{role: names[role] for role in roles}, "revisions": [revisions[role] for role in roles]}
            write_outcome(
                "embedding",
                out / "embeddings.parquet",
                lambda: iterate_vectors(result),
                EMBEDDINGS,
                rejected=result.rejected | {(str(key), "check_visual"): reason for key, reason in check.rejected.items()},
                summary=dataclasses.replace(result.summary, seconds=result.summary.seconds + check.summary.seconds),
                max_fraction=config.max_rejected_fraction,
                provenance=build_provenance("embedding", **facts, **described),
            )
            provenance = build_provenance("embedding", **facts, check_visual=names["check_visual"], revision=revisions["check_visual"])
            write_table(out / "check.parquet", iterate_vectors(check), CHECK_EMBEDDINGS, provenance=provenance)


if __name__ == "__main__":
    run_stage(app)
