"""POG's user file of ten million lines is sampled in under a gigabyte. Run: python -m pytest tests/pipeline/data/test_pog_scale.py"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.json_files import read_json
from tests.configs import PARAMS
from tests.raw_sets import draw_image
from tests.test_repo_rules import REPO

NUM_LINES = 10_000_000
NUM_USERS = 3_000_000
NUM_ITEMS = 20_000
BLOCK = 1_000  # lines that share their click lists
MAX_GIB = 1.0
RUN = """
import runpy, sys
from pipeline.cost import read_peak_resident
sys.argv = sys.argv[1:]
try:
    runpy.run_module("stages.dataset", run_name="__main__")
except SystemExit as ended:
    print("peak GiB", read_peak_resident() / 2**30, flush=True)
    raise
"""


def build_lines() -> Iterator[str]:
    """Yield blocks of lines: a user has three or four lines of one to eight clicks each, spread over the whole file."""
    rng = random.Random(0)
    for block in range(NUM_LINES // BLOCK):
        clicks = ";".join(f"i{rng.randrange(NUM_ITEMS):032d}" for _ in range(rng.randint(1, 8)))
        start = block * BLOCK
        yield "".join(f"u{(start + n) * 7_919 % NUM_USERS:08d},{clicks},o{n}\n" for n in range(BLOCK))


@pytest.mark.slow
def test_ten_million_lines_are_sampled_in_under_a_gigabyte(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    with (raw / "user_data.txt").open("w") as file:
        file.writelines(build_lines())
    (raw / "item_data.txt").write_text("".join(f"i{n:032d},{n % 60},//host/{n}.jpg,连衣裙\n" for n in range(NUM_ITEMS)), encoding="utf-8")
    (raw / "few").mkdir()
    for n in range(60):
        draw_image(n).save(raw / "few" / f"{n}.jpg")
    for n in range(NUM_ITEMS):
        (raw / "images" / f"i{n:032d}.jpg").symlink_to(raw / "few" / f"{n % 60}.jpg")
    block = yaml.safe_load((REPO / "conf" / "dataset" / "pog.yaml").read_text(encoding="utf-8")) | {"raw": str(raw), "image_size": 32}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"dataset": block}))
    paths = ["--params", str(tmp_path / "params.yaml"), "--extra", str(tmp_path / "extra"), "--out", str(tmp_path / "out")]
    finished = subprocess.run([sys.executable, "-c", RUN, "dataset", *paths], cwd=REPO, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    peak = float(finished.stdout.split("peak GiB")[1].split()[0])
    print(f"\npeak {peak:.2f} GiB for {(raw / 'user_data.txt').stat().st_size / 1e9:.1f} GB; {finished.stdout.splitlines()[-2]}")
    summary = read_json(tmp_path / "out" / "summary.json")
    assert (summary["users"], summary["lines"]) == (1_000, NUM_LINES)
    assert peak < MAX_GIB
