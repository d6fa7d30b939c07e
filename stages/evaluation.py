"""Stage `evaluation`: score every drawn image and summarise each method with 95% intervals."""

from pathlib import Path

import typer

from pipeline.artifacts import build_provenance, read_table
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.inputs import build_catalogue, build_tasks
from pipeline.evaluation.run import (
    STAGE,
    RankerPaths,
    build_scores,
    index_embeddings,
    list_generated,
    list_inputs,
    list_styles,
    load_models,
    read_names,
    score_all,
)
from pipeline.evaluation.summary import CSV_COLUMNS, build_summary, describe_users, flatten_metrics, list_rows
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import write_json
from pipeline.metrics.definitions import define_metrics
from pipeline.models.references import parse_dtype
from pipeline.params import load_params, load_seed
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, LABELS, RETRIEVED, SCORES
from pipeline.spreadsheets import write_csv
from pipeline.table_images import ImageColumn
from pipeline.terminal import say
from stages.entry import list_files, run_stage, write_outcome

app = typer.Typer(add_completion=False)


@app.command()
def main(
    items: Path = typer.Option(...),
    cases: Path = typer.Option(...),
    captions: Path = typer.Option(...),
    embeddings: Path = typer.Option(...),
    retrieved: Path = typer.Option(...),
    ranker: Path = typer.Option(...),
    generated: list[Path] = typer.Option(...),
    out: Path = typer.Option(...),
    labels: Path | None = None,
    ranker_check: Path | None = None,
    params: Path = Path("params.yaml"),
) -> None:
    """Write scores, rejected images, the nested summary, the main method's metrics and a CSV of every mean with its interval.

    `ranker_check` is the frozen evaluation ranker, which is never a reward; without it its columns are left out.
    """
    config, seed, device = load_params(params, STAGE, EvaluationConfig), load_seed(params), resolve_device(load_runtime(params))
    names = read_names(params)
    label_table = read_table(labels, LABELS) if labels else None
    item_table = read_table(items, ITEMS, columns=["image_sha256", "text"])
    catalogue = build_catalogue(item_table, ImageColumn(items), read_table(captions, CAPTIONS), label_table, source=config.text)
    drawn = list_generated(list_files(generated, "generated.parquet"))
    case_table = read_table(cases, CASES)
    tasks, missing = build_tasks(case_table, drawn, read_table(retrieved, RETRIEVED), catalogue, config)

    say(*describe_users(case_table, {case_id for method in drawn for case_id in method.case_ids}, config.split))

    rankers = RankerPaths(ranker, ranker_check)
    models = load_models(names, rankers, device=device, dtype=parse_dtype(names.dtype, device))
    known_images = index_embeddings(read_table(embeddings, EMBEDDINGS, columns=["clip_image"]), tasks) if names.metric_clip == names.clip else None
    inputs = list_inputs(config, names, rankers, seed=seed)
    result = score_all(tasks, drawn, catalogue, models, config, known_images=known_images, inputs=inputs, seed=seed)

    metrics = define_metrics(models.perceptual.name)
    scores = build_scores(tasks, result, metrics)
    facts = {"profile": names.profile, "models": names.list_revisions(), "perceptual": models.perceptual.name, "seed": seed}
    left_out = {"missing": missing, "rejected": result.rejected}
    summary = build_summary(scores, tasks, metrics, config, **left_out, facts=facts, styles=list_styles(tasks, result))
    write_json(out / "summary.json", summary)
    write_json(out / "metrics.json", flatten_metrics(summary))
    write_csv(out / "methods.csv", list_rows(summary), CSV_COLUMNS)
    write_outcome(
        STAGE,
        out / "scores.parquet",
        scores,
        SCORES,
        rejected=result.rejected,
        summary=result.summary,
        max_fraction=config.max_rejected_fraction,
        provenance=build_provenance(STAGE, params=compute_fingerprint(config), **facts),
    )


if __name__ == "__main__":
    run_stage(app)
