"""Seconds and peak memory of what moves rows, at several sizes, with models that cost nothing. Run: make bench-scale

It lies here because it needs the tests' stand-ins and, like them, is no part of the pipeline. Every line is a process of its own, in which the
imports alone take what the column `at start` says; the files (about 20 GB at the most) lie in a folder of `.work/` and are removed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.artifacts import build_chunks, read_table, write_table
from pipeline.captioning import CaptioningConfig, caption_items
from pipeline.columns import pack_matrix
from pipeline.cost import read_peak_resident
from pipeline.data.items import ItemRows
from pipeline.embedding import COLUMNS, VECTORS, EmbeddingConfig, Encoders, embed_items, iterate_vectors
from pipeline.ledger import HASH, Ledger
from pipeline.models.lazy import LazyModel
from pipeline.schemas import CAPTIONS, EMBEDDINGS, ITEMS
from pipeline.table_images import ImageColumn
from pipeline.work import work_dir
from tests.stand_ins import WIDTH, StandInCaptioner, StandInEncoder, make_image

SIZES = (10_000, 100_000, 300_000)
IMAGE_PADDING = 8192  # bytes: an image of 128 px has about as many
LEDGER_ROWS, BATCH_ROWS = 1_000_000, 1000
BATCH_SIZE = 256


def measure_dataset(root: Path, count: int) -> None:
    """Collect the items in a shuffled order and write their table."""
    items = ItemRows()
    for index in np.random.default_rng(0).permutation(count).tolist():
        items.add(f"item-{index:07d}", make_image(index, padding=IMAGE_PADDING), text=f"text {index}", category="")
    write_table(root / "items.parquet", build_chunks(items.iterate_sorted(), ITEMS.build_schema()), ITEMS, provenance={})


def measure_captioning(root: Path, count: int) -> None:
    """Caption the items."""
    config = CaptioningConfig(prompt=None, num_beams=1, max_new_tokens=8, batch_size=BATCH_SIZE, max_rejected_fraction=0.0)
    path = root / "items.parquet"
    items = read_table(path, ITEMS, columns=["image_sha256"])
    with caption_items(items, ImageColumn(path), config, captioner=LazyModel("stand-in", StandInCaptioner)) as result:
        assert len(result.keys) == count
        write_table(root / "captions.parquet", result.iterate("item_id"), CAPTIONS, provenance={})


def measure_embedding(root: Path, count: int) -> None:
    """Embed the items: three vectors of 768 numbers each."""
    config = EmbeddingConfig(semantic_text="caption", batch_size=BATCH_SIZE, max_rejected_fraction=0.0)
    path, encoders = root / "items.parquet", Encoders(StandInEncoder(), StandInEncoder())
    items, captions = read_table(path, ITEMS, columns=["image_sha256", "text", "category"]), read_table(root / "captions.parquet", CAPTIONS)
    with embed_items(items, ImageColumn(path), captions, config, encoders=LazyModel("stand-in", lambda: encoders)) as result:
        assert len(result.keys) == count
        write_table(root / "embeddings.parquet", iterate_vectors(result), EMBEDDINGS, provenance={})


def measure_ledger_writing(root: Path, count: int) -> None:
    """Append rows of three vectors batch by batch; parts are merged meanwhile."""
    folder = root / "ledger"
    folder.mkdir()
    ledger, generator = Ledger(folder, COLUMNS), np.random.default_rng(0)
    for start in range(0, count, BATCH_ROWS):
        hashes = pa.array([index.to_bytes(32, "big") for index in range(start, start + BATCH_ROWS)], HASH)
        vectors = [pack_matrix(generator.standard_normal((BATCH_ROWS, WIDTH), dtype=np.float32)) for _ in VECTORS]
        ledger.append(pa.table([hashes, pa.nulls(BATCH_ROWS, pa.string()), *vectors], schema=ledger.schema))


def measure_ledger_opening(root: Path, count: int) -> None:
    """Open the ledger and look every row up."""
    started = time.monotonic()
    ledger = Ledger(root / "ledger", COLUMNS)
    places = ledger.find(pa.array([index.to_bytes(32, "big") for index in range(count)], HASH))
    assert (places >= 0).all()
    print(f"    opened and found {count:,} rows in {time.monotonic() - started:.1f} s, {len(list((root / 'ledger').iterdir()))} files")


def measure_ledger_reading(root: Path, count: int) -> None:
    """Check the digests of all parts and read every value in key order."""
    ledger = Ledger(root / "ledger", COLUMNS)
    assert not ledger.set_damaged_aside()
    assert sum(len(values) for values in ledger.read_values(np.arange(count))) == count


MEASURES = {
    "dataset": measure_dataset,
    "captioning": measure_captioning,
    "embedding": measure_embedding,
    "ledger: write": measure_ledger_writing,
    "ledger: open": measure_ledger_opening,
    "ledger: read": measure_ledger_reading,
}


def run_measure(name: str, root: Path, count: int) -> None:
    """Run one measure in a process of its own, which prints the line."""
    command = [sys.executable, "-m", "tests.bench_scale", name, str(root), str(count)]
    subprocess.run(command, env={**os.environ, "DVC_ROOT": str(root), "TQDM_DISABLE": "1"}, check=True)


@contextlib.contextmanager
def make_folder() -> Iterator[Path]:
    """Make a folder for some measures and remove it."""
    work_dir().mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-scale-", dir=work_dir()) as folder:
        yield Path(folder)


def main() -> None:
    """Measure everything."""
    print(f"{'what':<16}{'rows':>10}{'seconds':>10}{'rows/s':>10}{'peak MB':>10}{'at start':>10}", flush=True)
    for count in SIZES:
        with make_folder() as root:
            for name in ("dataset", "captioning", "embedding"):
                run_measure(name, root, count)
    with make_folder() as root:
        for name in ("ledger: write", "ledger: open", "ledger: read"):
            run_measure(name, root, LEDGER_ROWS)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        began, number, at_start = time.monotonic(), int(sys.argv[3]), read_peak_resident()
        MEASURES[sys.argv[1]](Path(sys.argv[2]), number)
        seconds = time.monotonic() - began
        memory = "".join(f"{value / 1e6:>10,.0f}" for value in (read_peak_resident(), at_start))
        print(f"{sys.argv[1]:<16}{number:>10,}{seconds:>10.1f}{number / seconds:>10,.0f}{memory}", flush=True)
