"""Stage `captioning`: BLIP-2 says what each item's image shows."""

from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table, write_table
from pipeline.captioning import CaptioningConfig, caption_items
from pipeline.ledger import write_rejected
from pipeline.models.captioner import load_captioner
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import hash_params, load_params, read_section
from pipeline.runtime import load_runtime, print_summary, resolve_device
from pipeline.schemas import CAPTIONS, ITEMS
from stages.entry import run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(items: Path = typer.Option(...), out: Path = typer.Option(...), params: Path = Path("params.yaml")) -> None:
    """Write one caption an item, and the items whose image cannot be captioned."""
    config = load_params(params, "captioning", CaptioningConfig)
    device = resolve_device(load_runtime(params))
    reference, dtype_name = read_reference(params, "captioner"), read_section(params, "models.dtype")
    dtype = parse_dtype(dtype_name, device)
    revision = compute_model_revision(reference)

    result = caption_items(
        read_table(items, ITEMS),
        config,
        load=lambda: load_captioner(resolve_model(reference), device=device, dtype=dtype),
        model=(revision, str(dtype_name)),
    )
    rows = [{"item_id": key, **values} for key, values in result.values.items()]
    provenance = build_provenance("captioning", params=hash_params(config), captioner=reference, revision=revision, dtype=dtype_name)
    print_summary("captioning", result.summary)
    write_table(out / "captions.parquet", rows, CAPTIONS, provenance=provenance)
    write_rejected(
        out / "rejected.parquet",
        "captioning",
        result.rejected,
        rows_in=result.summary.rows_in,
        max_fraction=config.max_rejected_fraction,
        provenance=provenance,
    )


if __name__ == "__main__":
    run_stage(app)
