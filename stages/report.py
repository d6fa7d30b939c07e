"""Stage `report`: one self-contained HTML page that a person enjoys."""

import time
from pathlib import Path

import typer

from pipeline.artifacts import read_provenance, read_table
from pipeline.columns import map_columns
from pipeline.files import write_bytes
from pipeline.json_files import read_json
from pipeline.params import load_params, load_seed
from pipeline.report.config import ReportConfig
from pipeline.report.domain import measure_domain
from pipeline.report.inputs import (
    ReportInputs,
    count_users,
    index_retrieved,
    list_drawn_cases,
    read_curves,
    read_left_out,
    read_params,
    read_shown,
)
from pipeline.report.page import build_page
from pipeline.rows import Summary
from pipeline.runtime import print_summary
from pipeline.schemas import CASES, LABELS, PREFERENCES, REJECTED, RETRIEVED, SCORES
from pipeline.terminal import say
from stages.entry import list_files, run_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(
    items: Path = typer.Option(...),
    cases: Path = typer.Option(...),
    preferences: Path = typer.Option(...),
    retrieved: Path = typer.Option(...),
    scores: Path = typer.Option(...),
    summary: Path = typer.Option(...),
    out: Path = typer.Option(...),
    generated: list[Path] = typer.Option(...),
    rejected: list[Path] = typer.Option([]),
    curves: list[Path] = typer.Option([]),
    labels: Path | None = None,
    dataset: Path | None = None,
    missing: Path | None = None,
    prompts: Path | None = None,
    embeddings: Path | None = None,
    domain: Path | None = None,
    params: Path = Path("params.yaml"),
) -> None:
    """Write index.html; the title of a CSV of curves is the name of its folder.

    `dataset` and `missing` are the dataset stage's summary and its list of missing images, `prompts` the preference stage's metrics;
    `domain` says how well pictures fit their texts where the models know them, to compare `embeddings` with.
    """
    started = time.monotonic()
    config, seed = load_params(params, "report", ReportConfig), load_seed(params)
    labels_of = {row["item_id"]: (row["style"], row["concept"]) for row in read_table(labels, LABELS).to_pylist()} if labels else {}
    scores_of = {(row["method"], row["case_id"]): row for row in read_table(scores, SCORES).to_pylist()}
    all_cases = read_table(cases, CASES).to_pylist()
    tables = list_files(generated, "generated.parquet")
    drawn_cases = list_drawn_cases(tables, all_cases)
    preference_table = read_table(preferences, PREFERENCES)
    rejects = list_files([*rejected, *filter(Path.is_dir, generated)], "rejected.parquet")
    rejected_rows = [row for path in rejects for row in read_table(path, REJECTED).to_pylist()]
    drawn = list_files([*filter(Path.is_dir, generated)], "metrics.json")
    left_out = read_left_out(items, rejected_rows, cases=all_cases, missing=missing, prompts=prompts, drawn=drawn, limit=config.num_rejected)
    inputs = ReportInputs(
        shown=read_shown(items, tables, cases=drawn_cases, labels=labels_of, config=config, seed=seed),
        labels=labels_of,
        preferences=map_columns(preference_table, "case_id", "keywords"),
        retrieved=index_retrieved(read_table(retrieved, RETRIEVED)),
        scores=scores_of,
        summary=read_json(summary),
        rejected=rejected_rows,
        curves={path.parent.name: read_curves(path) for path in list_files(curves, "curves.csv")},
        params=read_params(params),
        provenance=read_provenance(scores),
        dataset=read_json(dataset) if dataset else {},
        left_out=left_out,
        num_drawn=count_users(drawn_cases),
        domain=measure_domain(embeddings, domain) if embeddings and domain else None,
    )
    page = build_page(inputs, config).encode()
    write_bytes(out / "index.html", page)
    say(f"report: {out / 'index.html'}, {len(page) / 1e6:.1f} MB")
    print_summary("report", Summary(len(inputs.scores), len(inputs.scores), 0, 0, time.monotonic() - started))


if __name__ == "__main__":
    run_stage(app)
