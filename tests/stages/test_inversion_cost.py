"""What one training of many users saves: 8 users in one run of the stage `ti`, beside 8 runs of one user, with the embedded model.

Run: `python -m pytest tests/stages/test_inversion_cost.py -s`. Passes of the U-Net are counted: a step takes one, for however many
users. The processor's seconds of whole runs, start and latents included, are compared too; what share is saved depends on the
machine (a pass of many rows, and a quick start).
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from pipeline.artifacts import write_table
from pipeline.data.images import encode_png
from pipeline.json_files import read_json
from pipeline.models.denoising import Denoiser
from pipeline.models.folders import resolve_model
from pipeline.params import read_document
from pipeline.schemas import CAPTIONS, CASES, ITEMS
from stages import ti

REPO = Path(__file__).resolve().parents[2]
NUM_USERS, NUM_IMAGES = 8, 6
NUM_COUNTED_STEPS = 20  # where passes are counted, which are the same for every step
USERS = [f"u{index}" for index in range(NUM_USERS)]


def write_world(root: Path, **changed: int) -> None:
    """Write users with histories of their own, and params of the default size but for the number of users per pass and what is `changed`."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for user in USERS:
        for index in range(NUM_IMAGES):
            pixels = torch.randint(0, 256, (64, 64, 3), generator=generator, dtype=torch.uint8).numpy()
            image = {"bytes": encode_png(Image.fromarray(pixels)), "path": None}
            item_id = f"{user}i{index}"
            rows.append({"item_id": item_id, "image": image, "text": f"thing {index}", "category": "", "image_sha256": item_id})
    write_table(root / "items.parquet", rows, ITEMS, provenance={})
    write_table(root / "captions.parquet", [], CAPTIONS, provenance={})
    for name, users in {"all": USERS, **{user: [user] for user in USERS}}.items():
        cases = [
            {
                "case_id": f"c{user}",
                "user_id": user,
                "split": "test",
                "history": [f"{user}i{index}" for index in range(NUM_IMAGES)],
                "reference_id": f"{user}i0",
                "truth_id": None,
            }
            for user in users
        ]
        write_table(root / f"cases_{name}.parquet", cases, CASES, provenance={})
    params = read_document(REPO / "params.yaml")
    for size in (1, NUM_USERS):
        params["ti"] |= {"users_per_batch": size, **changed}
        params["comparison"]["ti"] = True
        (root / f"params_{size}.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def run(root: Path, name: str, users_per_batch: int) -> tuple[float, float, float]:
    """Run the stage in a process of its own, only the model's folder kept from other runs; return its seconds, its training's, the CPU's."""
    for kept in ("latents", "ti", "costs"):
        shutil.rmtree(root / ".work" / kept, ignore_errors=True)
    arguments = {
        "cases": f"cases_{name}.parquet",
        "items": "items.parquet",
        "captions": "captions.parquet",
        "params": f"params_{users_per_batch}.yaml",
    }
    command = [sys.executable, "-m", "stages.ti", "--out", str(root / name)]
    for option, path in arguments.items():
        command += [f"--{option}", str(root / path)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=REPO, env={**os.environ, "DVC_ROOT": str(root)}, check=True, capture_output=True)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    trained = sum(read_json(path)["seconds"] for path in (root / ".work" / "costs").iterdir())
    return seconds, trained, cpu_seconds


@pytest.mark.slow
def test_eight_users_together_cost_at_most_half_of_eight_runs_of_one(tmp_path: Path) -> None:
    write_world(tmp_path)  # the model's folder is put together in the work folder of this test, which `run` takes too
    resolve_model(read_document(REPO / "params.yaml")["models"]["diffusion"])
    together = run(tmp_path, "all", NUM_USERS)
    alone = [NUM_USERS * seconds for seconds in run(tmp_path, USERS[0], 1)]  # which are alike: one stands for all
    for name, seconds in (("together", together), ("alone", alone)):
        print("{}: {:.1f} s, {:.1f} s of them training; {:.1f} s of the processor".format(name, *seconds))
    assert together[2] <= alone[2] / 2  # of the processor; how much less follows from the machine, passes of the U-Net do not


def count_passes(root: Path, name: str, users_per_batch: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the stage in this process and return how many passes of the U-Net it took."""
    passes = []
    compute_loss = Denoiser.compute_loss
    monkeypatch.setattr(Denoiser, "compute_loss", lambda *values: passes.append(1) or compute_loss(*values))
    monkeypatch.setenv("DVC_ROOT", str(root))
    arguments = ["--cases", f"cases_{name}.parquet", "--items", "items.parquet", "--captions", "captions.parquet"]
    arguments = [word if word.startswith("--") else str(root / word) for word in [*arguments, "--params", f"params_{users_per_batch}.yaml"]]
    result = CliRunner().invoke(ti.app, [*arguments, "--out", str(root / f"counted-{name}")])
    if result.exception:
        raise result.exception
    monkeypatch.undo()
    return len(passes)


@pytest.mark.slow
def test_eight_users_together_take_less_than_a_quarter_of_the_passes_of_eight_runs_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_world(tmp_path, num_steps=NUM_COUNTED_STEPS)
    config = read_document(tmp_path / "params_1.yaml")["ti"]
    together, alone = count_passes(tmp_path, "all", NUM_USERS, monkeypatch), count_passes(tmp_path, USERS[0], 1, monkeypatch)
    measured = 1 + config["num_steps"] // config["held_out_every"]
    assert alone == config["num_steps"] + measured  # a pass per step, and one per measurement of what is held out
    assert together == config["num_steps"] + NUM_USERS * measured
    assert together < NUM_USERS * alone / 4
