"""Stage `generation`, one instance per method: draw every case of the configured splits."""

from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table, write_json
from pipeline.cost import summarise_rows
from pipeline.data.cases import select_cases
from pipeline.generation.build import build_method
from pipeline.generation.config import GenerationConfig
from pipeline.generation.context import GenerationContext
from pipeline.generation.drawing import build_generated, draw_cases, summarise_drawn
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.lazy import LazyModel
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import load_params, load_seed, read_section
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, CASES, GENERATED, ITEMS, PREFERENCES
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
    calibrator: Path | None = None,
    lora: Path | None = None,
    vectors: Path | None = None,
    pmg_preferences: Path | None = None,
    params: Path = Path("params.yaml"),
) -> None:
    """Write the images of `method`, the cases that it cannot draw, its figures and its cost; a method is given only the files that it depends on."""
    config, seed, device = load_params(params, "generation", GenerationConfig), load_seed(params), resolve_device(load_runtime(params))
    reference, dtype_name = read_reference(params, "diffusion"), read_section(params, "models.dtype")
    options = {"device": device, "dtype": parse_dtype(dtype_name, device), "scheduler": config.scheduler}
    files = {"calibrator": calibrator, "lora": lora, "vectors": vectors, "pmg_preferences": pmg_preferences}
    context = GenerationContext(
        params=params,
        config=config,
        seed=seed,
        device=device,
        cases=select_cases(read_table(cases, CASES), read_table(preferences, PREFERENCES) if preferences else None, config.splits),
        items=read_table(items, ITEMS),
        captions=read_table(captions, CAPTIONS) if captions else None,
        diffusion=LazyModel(f"{compute_model_revision(reference)} {dtype_name}", lambda: load_diffusion(resolve_model(reference), **options)),
        files={name: path for name, path in files.items() if path is not None},
    )
    stage, chosen = f"generation@{method}", build_method(method, context)
    result = draw_cases(chosen, method, context.cases, batch_size=config.batch_size, device=device)
    write_json(out / "metrics.json", summarise_drawn(result))
    write_json(out / "cost.json", summarise_rows(result.values.values(), device))
    # a data set need not know any truth; one that knows some must know nearly all
    max_fraction = 1.0 if method == "truth" and not any(case.truth_id for case in context.cases) else config.max_rejected_fraction
    write_outcome(
        stage,
        out / "generated.parquet",
        build_generated(method, result),
        GENERATED,
        rejected=result.rejected,
        summary=result.summary,
        max_fraction=max_fraction,
        provenance=build_provenance(stage, method=method, identity=chosen.identity),
    )


if __name__ == "__main__":
    run_stage(app)
