"""Stage `captioning`: BLIP-2 says what each item's image shows."""

from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table
from pipeline.captioning import CaptioningConfig, caption_items
from pipeline.fingerprint import compute_fingerprint
from pipeline.models.captioner import load_captioner
from pipeline.models.folders import compute_model_revision
from pipeline.models.lazy import LazyModel
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import load_params, read_section
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, ITEMS
from pipeline.table_images import ImageColumn
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(items: Path = typer.Option(...), out: Path = typer.Option(...), params: Path = Path("params.yaml")) -> None:
    """Write one caption per item, and the items whose image cannot be captioned."""
    config = load_params(params, "captioning", CaptioningConfig)
    device = resolve_device(load_runtime(params))
    reference, dtype_name = read_reference(params, "captioner"), read_section(params, "models.dtype")
    dtype = parse_dtype(dtype_name, device)
    revision = compute_model_revision(reference)

    with caption_items(
        read_table(items, ITEMS, columns=["image_sha256"]),
        ImageColumn(items),
        config,
        captioner=LazyModel(f"{revision} {dtype_name}", lambda: load_captioner(reference, device=device, dtype=dtype)),
    ) as result:
        write_outcome(
            "captioning",
            out / "captions.parquet",
            lambda: result.iterate("item_id"),
            CAPTIONS,
            rejected=result.rejected,
            summary=result.summary,
            max_fraction=config.max_rejected_fraction,
            provenance=build_provenance("captioning", params=compute_fingerprint(config), captioner=reference, revision=revision, dtype=dtype_name),
        )


if __name__ == "__main__":
    run_stage(app)
