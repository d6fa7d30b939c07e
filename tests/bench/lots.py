"""What the benchmarks work on: rows of the default data set, cut into lots that share no row."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.artifacts import build_chunks, write_table
from pipeline.data.build import build_dataset
from pipeline.data.items import ItemRows
from pipeline.params import load_params, load_seed, read_flag
from pipeline.schemas import CAPTIONS, ITEMS

DRAWN_BY_DIFFUSION = ("sd", "keywords", "global", "ragar", "retrieved", "ip_adapter")  # methods that draw one picture a case


@dataclass
class Lot:
    """Some items, as the table that the pipeline reads and as the plain rows that a loop goes over; both hold the same bytes."""

    folder: Path
    rows: list[dict[str, Any]]  # item_id, image (encoded bytes), text, category
    captions: dict[str, str] = field(default_factory=dict)  # filled by the captioning; the keywords need them

    @property
    def items(self) -> Path:
        """The table of the items."""
        return self.folder / "items.parquet"

    def build_captions(self) -> pa.Table:
        """Build the table that the stage captioning would have written."""
        rows = [{"item_id": item_id, "caption": caption} for item_id, caption in sorted(self.captions.items())]
        return pa.Table.from_pylist(rows, schema=CAPTIONS.build_schema())


def make_lot(folder: Path, rows: list[dict[str, Any]]) -> Lot:
    """Write the table of some rows."""
    folder.mkdir(parents=True)
    items = ItemRows()
    for row in rows:
        items.add(row["item_id"], row["image"], text=row["text"], category=row["category"])
    lot = Lot(folder, sorted(rows, key=lambda row: row["item_id"]))
    write_table(lot.items, build_chunks(items.iterate_sorted(), ITEMS.build_schema()), ITEMS, provenance={})
    return lot


@dataclass(frozen=True)
class DefaultRun:
    """The items of the default data set in a random order, and how many rows a default run computes in each stage."""

    rows: list[dict[str, Any]]
    weights: dict[str, int]


def read_default_run(params: Path) -> DefaultRun:
    """Build the data set that the params name."""
    from pipeline.generation.config import GenerationConfig

    dataset = build_dataset(params, params.parent / "data" / "extra", seed=load_seed(params))
    names = ("item_id", "text", "category")
    rows = [{**{name: row[name] for name in names}, "image": row["image"]["bytes"]} for row in dataset.items.iterate_sorted()]
    splits = load_params(params, "generation", GenerationConfig).splits
    num_cases = sum(case["split"] in splits for case in dataset.cases)
    num_methods = sum(read_flag(params, f"comparison.{method}") for method in DRAWN_BY_DIFFUSION)
    weights = dict.fromkeys(("captioning", "embedding", "keywords"), len(rows)) | {"drawing": num_cases * num_methods}
    random.Random(0).shuffle(rows)
    return DefaultRun(rows, weights)
