"""Memory does not grow with a catalogue's images. Run: python -m pytest tests/test_scale.py"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.artifacts import read_table
from pipeline.compose import compose_params
from pipeline.schemas import CAPTIONS, EMBEDDINGS, ITEMS
from tests.stand_ins import write_images
from tests.test_repo_rules import REPO

GIB = 2**30
MEMORY = 1.5 * GIB
COUNT, NUM_BYTES = 1040, 3 * 2**20  # a little more than 3 GiB
RUN_STAGE = """
import sys
from pipeline.data import stored_images
from stages import {stage}
from tests.stand_ins import StandInCaptioner, StandInEncoder
for name, stand_in in (("load_captioner", StandInCaptioner), ("load_clip", StandInEncoder), ("load_visual", StandInEncoder)):
    if hasattr({stage}, name):
        setattr({stage}, name, lambda *args, stand_in=stand_in, **options: stand_in())
encode = stored_images.encode_png
stored_images.encode_png = lambda image: encode(image).ljust({num_bytes}, b"\\0")  # what stands behind the pixels does not matter
{stage}.app(sys.argv[1:], standalone_mode=False)
from pipeline.cost import read_peak_resident
print("peak", read_peak_resident())
"""


def run_stage(root: Path, stage: str, **paths: str) -> int:
    """Run a stage with stand-in models in a process of its own; return the most bytes that were resident in it."""
    options = [part for name, path in {"params": "params.yaml", **paths}.items() for part in (f"--{name}", str(root / path))]
    env = {**os.environ, "DVC_ROOT": str(root), "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", RUN_STAGE.format(stage=stage, num_bytes=NUM_BYTES), *options],
        cwd=REPO,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return int(process.stdout.split("peak ")[1])


@pytest.mark.slow
def test_three_gigabytes_of_images_pass_dataset_captioning_and_embedding(tmp_path: Path) -> None:
    write_images(tmp_path / "extra", COUNT, num_bytes=NUM_BYTES)
    small = ["dataset=stylemoji_small", "captioning.batch_size=16", "embedding.batch_size=16"]
    compose_params(small, conf=REPO / "conf", out=tmp_path / "params.yaml")
    peaks = {"dataset": run_stage(tmp_path, "dataset", extra="extra", out="dataset")}
    peaks["captioning"] = run_stage(tmp_path, "captioning", items="dataset/items.parquet", out="captioning")
    tables = {"items": "dataset/items.parquet", "captions": "captioning/captions.parquet"}
    peaks["embedding"] = run_stage(tmp_path, "embedding", **tables, out="embedding")
    tables = {"items": "dataset/items.parquet", "interactions": "dataset/interactions.parquet"}
    peaks["ranker_check"] = run_stage(tmp_path, "ranker_check", **tables, out="ranker_check")

    items = read_table(tmp_path / "dataset/items.parquet", ITEMS, columns=["image_sha256"])
    extra = [item_id for item_id in items["item_id"].to_pylist() if item_id.startswith("extra-")]
    assert len(extra) * NUM_BYTES > 3 * GIB
    assert len(set(items["image_sha256"].to_pylist())) == len(items)
    for path, table in (("captioning/captions", CAPTIONS), ("embedding/embeddings", EMBEDDINGS)):
        assert read_table(tmp_path / f"{path}.parquet", table, columns=[])["item_id"].to_pylist() == items["item_id"].to_pylist()
    print({stage: f"{peak / GIB:.2f} GiB" for stage, peak in peaks.items()})
    assert max(peaks.values()) < MEMORY, peaks
