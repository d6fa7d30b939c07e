"""`make bench-gpu`: models of the published size with random weights on one GPU, beside per-item loops, into docs/results/bench-gpu.md.

Needs about 20 GB of disk in `.work/`, for one model at a time, and a GPU with 40 GB.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
import typer

from pipeline.allocator import keep_freed_memory
from pipeline.compose import compose_params
from pipeline.endings import run_command
from pipeline.files import write_bytes
from pipeline.gpu import explain_unusable
from pipeline.params import load_params, load_seed
from pipeline.runtime import setup_logging
from pipeline.terminal import say
from pipeline.work import work_dir
from tests.bench import gpu_races, gpu_trainings
from tests.bench.full_size import SAVERS
from tests.bench.gpu_races import Line, Sizes, Track
from tests.bench.models import STAGES, Setting

LLM_DIM = 3584  # of Qwen2.5-7B
NO_GPU = 2  # exit code
COLUMNS = ("what", "unit", "ours", "per-item loop", "goal", "GPU busy", "decoding images")

Saver = Callable[[Path, torch.device], Path]
app = typer.Typer(add_completion=False)


def measure_all(params: Path, root: Path, device: torch.device, sizes: Sizes, *, savers: Mapping[str, Saver], llm_dim: int) -> Iterator[Line]:
    """Yield every rate as it is measured; a model's folder is there only while it is needed."""
    setting = Setting(
        params=params,
        folders={},
        configs={stage: load_params(params, stage, config_class) for stage, config_class in STAGES.items()},
        seed=load_seed(params),
        device=device,
        dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
        language_dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
    )

    def prepare(*roles: str) -> Track:
        folders = {role: str(savers[role](root / role, device)) for role in roles}
        named = {**folders, "visual": folders["clip"]} if "clip" in folders else folders
        return Track(root / f"rows of {roles[0]}", replace(setting, folders=named), sizes)

    yield gpu_races.race_captions(prepare("captioner"))
    shutil.rmtree(root / "captioner")
    yield from gpu_races.race_keywords(prepare("language_model"))
    shutil.rmtree(root / "language_model")
    track = prepare("clip", "diffusion")
    yield gpu_races.race_vectors(track)
    yield gpu_trainings.race_reflection(track.setting, sizes, llm_dim=llm_dim)
    yield from gpu_races.race_pictures(track)
    yield gpu_trainings.race_ranker(setting, sizes)


def write_table(lines: list[Line], card: str) -> str:
    """Write the page."""
    rows = [[line.name, line.unit, *map(write_rate, (line.rate, line.loop)), write_goal(line), *write_shares(line)] for line in lines]
    head = [COLUMNS, ["---"] * len(COLUMNS)]
    return "\n".join(
        [
            "# Models of the published size on one GPU",
            "",
            f"Made by `make bench-gpu`, on one {card}, torch {torch.__version__}, in bfloat16, with random weights and the params of `models=paper`;",
            "never edited by hand. What is measured and how: `tests/bench/gpu_races.py`, `tests/bench/gpu_trainings.py`.",
            "",
            *("| " + " | ".join(row) + " |" for row in [*head, *rows]),
            "",
        ]
    )


def write_rate(rate: float | None) -> str:
    """Write a rate."""
    return "–" if rate is None else f"{rate:,.2f}" if rate < 100 else f"{rate:,.0f}"


def write_goal(line: Line) -> str:
    """Write what is aimed at, and whether it is reached."""
    return "–" if line.goal is None else f"≥ {line.goal:,}: {'reached' if line.rate >= line.goal else 'missed'}"


def write_shares(line: Line) -> list[str]:
    """Write percentages."""
    return ["–" if line.utilisation is None else f"{line.utilisation:.0f}%", "–" if line.decoding is None else f"{line.decoding:.0%}"]


@app.command()
def main(out: Path = Path("docs/results/bench-gpu.md")) -> None:
    """Measure and write the page; without a GPU say so, and end with exit code 2."""
    reason = explain_unusable()
    if reason is not None:
        say(f"error: make bench-gpu needs an NVIDIA GPU, and this machine has no usable one: {reason}.", file=sys.stderr)
        raise typer.Exit(NO_GPU)
    device, lines, place = torch.device("cuda"), [], work_dir()
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-", dir=place) as folder:
        root = Path(folder)
        compose_params(["models=paper"], conf=Path("conf"), out=root / "params.yaml")
        os.environ["DVC_ROOT"] = folder
        for line in measure_all(root / "params.yaml", root, device, Sizes(), savers=SAVERS, llm_dim=LLM_DIM):
            say(f"{line.name}: {write_rate(line.rate)} {line.unit}, the loop {write_rate(line.loop)}")
            lines.append(line)
    page = write_table(lines, torch.cuda.get_device_name(device))
    write_bytes(out, page.encode())
    say(*page.splitlines())


if __name__ == "__main__":
    setup_logging()
    keep_freed_memory()
    run_command(app)
