"""Stage `dataset`: one adapter per data set makes the same tables of items, interactions and cases; `--check` only explains problems."""

import dataclasses
import sys
import time
from pathlib import Path

import typer

from pipeline.artifacts import build_chunks, build_provenance, write_rejected, write_table
from pipeline.data.build import build_dataset
from pipeline.data.dataset import Dataset, MissingImage, TooFewImagesError, explain_missing, summarise
from pipeline.data.problems import DataError
from pipeline.feasibility.material import load_plan, survey
from pipeline.feasibility.notes import list_notes
from pipeline.feasibility.obstacles import find_obstacles
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import write_json
from pipeline.params import load_seed, read_section
from pipeline.rows import Summary
from pipeline.runtime import print_summary
from pipeline.schemas import CASES, INTERACTIONS, ITEMS, LABELS
from pipeline.spreadsheets import write_csv
from pipeline.terminal import say
from stages.entry import run_stage

STAGE = "dataset"
MISSING = "missing.csv"
MISSING_COLUMNS = [field.name for field in dataclasses.fields(MissingImage)]

app = typer.Typer(add_completion=False)


@app.command()
def main(
    out: Path = Path("data/dataset"),
    extra: Path = Path("data/extra"),
    check: bool = False,
    params: Path = Path("params.yaml"),
) -> None:
    """Write items, interactions, cases, (where known) labels and the list of missing images; `extra` is a folder of further item images.

    `--check` writes no table: it reads everything that the stage would read, and ends with exit code 2 if there is a problem. Both refuse
    a data set on which a later stage could not run with these params.
    """
    started = time.monotonic()
    seed = load_seed(params)
    try:
        dataset = build_checked(params, extra, out, seed=seed)
    except DataError as error:
        if not check:
            raise
        say(*error.problems, file=sys.stderr)
        raise ValueError(f"the data set has {error.count:,} problem{'s' if error.count > 1 else ''}.") from error
    if check:
        say(f"checked: the data set {read_section(params, 'dataset.name')} can be used; missing images are listed in {out / MISSING}")
    else:
        write_tables(dataset, out, provenance=build_provenance(STAGE, params=compute_fingerprint(read_section(params, STAGE)), seed=seed))
        num_items, num_missing = len(dataset.items), len(dataset.missing)
        print_summary(STAGE, Summary(num_items + num_missing, num_items, 0, num_missing, time.monotonic() - started))


def build_checked(params: Path, extra: Path, out: Path, *, seed: int) -> Dataset:
    """Build the data set, list its missing images, say what a person should know, and refuse what a later stage could not run on."""
    try:
        dataset = build_dataset(params, extra, seed=seed)
    except TooFewImagesError as error:
        write_missing(error.missing, out)
        listed = f" They are listed in {out / MISSING}, and `make fetch-images` downloads those that have a URL." if error.missing else ""
        raise ValueError(f"{error}{listed}") from error
    write_missing(dataset.missing, out)
    say(*describe(dataset))
    refuse_missing(dataset, out / MISSING)
    material, plan = survey(dataset), load_plan(params)
    if obstacles := find_obstacles(material, plan):
        raise DataError(*obstacles, count=len(obstacles))
    say(*(f"note: {note}" for note in list_notes(material, plan)))
    return dataset


def write_tables(dataset: Dataset, out: Path, *, provenance: dict[str, object]) -> None:
    """Write the tables and the counts."""
    rejected = explain_missing(dataset.missing) | dataset.left_out | dataset.losses.explain_users()
    write_rejected(out / "rejected.parquet", STAGE, rejected, rows_in=len(rejected), max_fraction=1.0, provenance=provenance)
    write_table(out / "items.parquet", build_chunks(dataset.items.iterate_sorted(), ITEMS.build_schema()), ITEMS, provenance=provenance)
    write_table(out / "interactions.parquet", dataset.interactions, INTERACTIONS, provenance=provenance)
    write_table(out / "cases.parquet", dataset.cases, CASES, provenance=provenance)
    write_table(out / "labels.parquet", dataset.labels, LABELS, provenance=provenance)
    write_json(out / "summary.json", summarise(dataset))


def write_missing(missing: list[MissingImage], out: Path) -> None:
    """Write the list of missing images, one row per item: for people, and for `make fetch-images`."""
    write_csv(out / MISSING, map(dataclasses.asdict, missing), MISSING_COLUMNS)


def refuse_missing(dataset: Dataset, listed_in: Path) -> None:
    """Raise ValueError if more images are missing than dataset.max_rejected_fraction allows."""
    num_missing, total = len(dataset.missing), len(dataset.items) + len(dataset.missing)
    if num_missing > dataset.max_missing_fraction * total:
        raise ValueError(
            f"{num_missing:,} of {total:,} images are missing, more than dataset.max_rejected_fraction, {dataset.max_missing_fraction}; "
            f"they are listed in {listed_in}, and `make fetch-images` downloads those that have a URL."
        )


def describe(dataset: Dataset) -> list[str]:
    """Return the lines that a person should read: counts beside the paper's, rows that were left out, and how many images are missing."""
    lines = [
        f"{name}: {entry['found']:,}, the paper's Table 2 has {entry['paper']:,} ({entry['deviation']:+.1%})"
        for name, entry in dataset.facts.get("table_2", {}).items()
    ]
    lines += [*dataset.notes, *(f"{place}: {reason}" for place, reason in dataset.left_out.items()), *dataset.losses.describe()]
    if dataset.missing:
        total = len(dataset.items) + len(dataset.missing)
        lines.append(f"images: {len(dataset.missing):,} of {total:,} are missing, e.g. {dataset.missing[0].path}: {dataset.missing[0].reason}")
    return lines


if __name__ == "__main__":
    run_stage(app)
