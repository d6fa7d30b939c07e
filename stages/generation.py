"""Stage `generation`, one instance per method: draw every case of the configured splits."""

from pathlib import Path
from typing import Any

import typer

from pipeline.artifacts import build_provenance
from pipeline.cost import keep_cost
from pipeline.generation.summary import build_generated, summarise_drawn
from pipeline.json_files import write_json
from pipeline.params import read_flag
from pipeline.rows import Key, Summary
from pipeline.schemas import GENERATED
from stages.entry import run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    method: str = typer.Option(...),
    cases: Path = typer.Option(...),
    items: Path = typer.Option(...),
    out: Path = typer.Option(...),
    captions: Path | None = None,
    preferences: Path | None = None,
    looks: Path | None = None,
    embeddings: Path | None = None,
    labels: Path | None = None,
    calibrator: Path | None = None,
    lora: Path | None = None,
    glide: Path | None = None,
    vectors: Path | None = None,
    pmg_preferences: Path | None = None,
    params: Path = Path("params.yaml"),
) -> None:
    """Write the images of `method`, the cases that it cannot draw, and its figures; nothing is drawn unless `comparison.<method>` asks for it.

    A method is given only the files that it depends on.
    """
    stage = f"generation@{method}"
    values: dict[str, dict[str, Any]] = {}
    cost: dict[str, Any] = {}
    rejected: dict[Key, str] = {}
    summary, provenance, max_fraction, num_cut = Summary(0, 0, 0, 0, 0.0), build_provenance(stage, method=method), 0.0, 0
    if read_flag(params, f"comparison.{method}"):
        from pipeline.generation.run import draw_method  # late: it loads torch, which an empty table does without

        named = {"captions": captions, "preferences": preferences, "looks": looks, "embeddings": embeddings, "labels": labels}
        files = {
            "cases": cases,
            "items": items,
            **named,
            "calibrator": calibrator,
            "lora": lora,
            "glide": glide,
            "vectors": vectors,
            "pmg_preferences": pmg_preferences,
        }
        drawn = draw_method(method, params, {name: path for name, path in files.items() if path is not None})
        values, rejected, summary = drawn.result.values, drawn.result.rejected, drawn.result.summary
        provenance, max_fraction, cost, num_cut = drawn.provenance, drawn.max_rejected_fraction, drawn.cost, drawn.num_cut
    write_json(out / "metrics.json", summarise_drawn(values, num_cut=num_cut))
    write_outcome(
        stage,
        out / "generated.parquet",
        build_generated(method, values),
        GENERATED,
        rejected=rejected,
        summary=summary,
        max_fraction=max_fraction,
        provenance=provenance,
    )
    if cost:
        keep_cost(out / "generated.parquet", cost)


if __name__ == "__main__":
    run_stage(app)
