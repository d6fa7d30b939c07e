"""What every recipe shares: a resumable loop, moving-average weights, a learning-rate schedule, atomic files.

Checkpoints live in the git-ignored folder `.work/train/<model>/` and hold model, average, optimiser, random state and step,
so a recipe that is killed and started again goes on where its last checkpoint was. A GPU is used where there is one; models
are measured and written on the CPU, and the random numbers of a training differ between the two.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedded.muon import Muon

ROOT = Path(__file__).resolve().parents[1]
TRAIN_DIR = ROOT / ".work" / "train"
WEIGHTS_DIR = ROOT / "embedded" / "weights"
DRAWING_DIR = WEIGHTS_DIR / "artist_diffusion"  # what train_vae and train_unet write; `diffusion` was trained before the drawings came
CURVES_DIR = ROOT / "embedded" / "curves"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a model is trained."""

    steps: int  # optimiser steps
    peak_rate: float  # highest learning rate
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999  # of the weights that are shipped; grows towards this from 0
    checkpoint_seconds: float = 120.0
    log_steps: int = 50
    seed: int = 0
    muon: bool = False  # for inner matrices and kernels; AdamW for the others in any case


# Names of layers at a network's edges, whose rows and columns mean something by themselves: AdamW's in any case.
EDGE_LAYERS = (
    "conv_in", "conv_out", "input_blocks.0.0", "out.2", "quant", "stem", "visual.conv1", "visual.proj", "embed", "head",
    "query_tokens", "vision_model",
)  # fmt: skip


class MovingAverage:
    """Exponential moving average of a module's floating-point state."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from a copy of the module's state."""
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module; early steps move faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value.detach(), 1 - decay)
            else:
                self.state[name].copy_(value)

    def copy_to_cpu(self) -> dict[str, Tensor]:
        """Give the averaged state where models are measured and written."""
        return {name: value.cpu() for name, value in self.state.items()}


def parse_arguments(description: str, loop: LoopConfig, *, flags: dict[str, str] | None = None) -> argparse.Namespace:
    """Read a recipe's arguments, its own `flags` (with their help) and the loop as they change it among them, and set torch's threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=loop.steps, help="of the optimiser, in all")
    parser.add_argument("--peak-rate", type=float, default=loop.peak_rate, help="highest learning rate; lower ones suit weights that are nearly done")
    parser.add_argument("--batch-size", type=int, help="of a step; the recipe's own if it is left out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--from-shipped", action="store_true", help="begin with the shipped weights instead of random ones")
    for flag, explained in (flags or {}).items():
        parser.add_argument(flag, action="store_true", help=explained)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.loop = replace(loop, steps=arguments.steps, peak_rate=arguments.peak_rate)
    return arguments


def move_tensors(holder: Any) -> Any:
    """Give a copy of a dataclass (or a list) whose tensors, at any depth, are where the training computes."""
    if isinstance(holder, Tensor):
        return holder.to(DEVICE)
    if isinstance(holder, list) and holder and isinstance(holder[0], Tensor):
        return [move_tensors(value) for value in holder]
    if is_dataclass(holder):
        return replace(holder, **{field.name: move_tensors(getattr(holder, field.name)) for field in fields(holder)})
    return holder


def compute_rate(step: int, config: LoopConfig) -> float:
    """Warm up linearly, then decay as a half cosine to a hundredth of the peak."""
    if step < config.warmup_steps:
        return config.peak_rate * (step + 1) / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    return config.peak_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, make it durable, then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_checkpoint(path: Path) -> dict | None:
    """Read a checkpoint (tensors and plain values only), or nothing if there is none."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None


def train_module(
    name: str,
    module: nn.Module,
    config: LoopConfig,
    *,
    compute_loss: Callable[[torch.Generator], tuple[Tensor, dict[str, Tensor]]],
    on_checkpoint: Callable[[dict[str, Tensor]], dict[str, float]] | None = None,
    goes_on: bool = False,
) -> dict[str, Tensor]:
    """Train the trainable parameters of a module to the last step, resuming if there is a checkpoint.

    Returns the averaged state. `on_checkpoint(averaged state)` is called after each checkpoint and gives the figures to record.
    With `goes_on` the module holds the weights of an earlier training, whose recorded curve is continued.
    """
    path = TRAIN_DIR / name / "checkpoint.pt"
    module.to(DEVICE)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimisers = build_optimisers(module, config)
    average = MovingAverage(module, config.ema_decay)
    generator = torch.Generator(DEVICE).manual_seed(config.seed)
    step, start = resume(path, module, average, optimisers, generator) or (0, count_steps(name) if goes_on else 0)
    cut_curve(name, start + step)
    saved_at, began, history = time.time(), time.time(), []
    while step < config.steps:
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = compute_rate(step, config)
        loss, metrics = compute_loss(generator)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        for optimiser in optimisers:
            optimiser.step()
        module.zero_grad(set_to_none=True)
        step += 1
        average.update(module, step)
        history.append({"loss": loss.detach(), **metrics})
        if step % config.log_steps == 0:
            means = {key: float(sum(row[key] for row in history)) / len(history) for key in history[-1]}
            record(name, start + step, start + config.steps, means | {"step_seconds": (time.time() - began) / len(history)})
            history, began = [], time.time()
        if time.time() - saved_at > config.checkpoint_seconds or step == config.steps:
            save_checkpoint(path, module, average, optimisers, generator, step, start)
            if on_checkpoint is not None:
                record(name, start + step, start + config.steps, on_checkpoint(average.copy_to_cpu()))
            saved_at, began, history = time.time(), time.time(), []
    return average.copy_to_cpu()


def build_optimisers(module: nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    """Share the trainable parameters out: Muon's, if it is asked for, and AdamW's."""
    trainable = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    inner = [parameter for name, parameter in trainable if config.muon and parameter.ndim > 1 and not any(edge in name for edge in EDGE_LAYERS)]
    chosen = {id(parameter) for parameter in inner}
    others = [parameter for _, parameter in trainable if id(parameter) not in chosen]
    adamw = torch.optim.AdamW(others, lr=config.peak_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99))
    return [adamw, Muon(inner, config.peak_rate, weight_decay=config.weight_decay)] if inner else [adamw]


def resume(
    path: Path, module: nn.Module, average: MovingAverage, optimisers: list[torch.optim.Optimizer], generator: torch.Generator
) -> tuple[int, int] | None:
    """Put a checkpoint's state back in place and give its step, and how many steps earlier trainings had done; None without one."""
    checkpoint = read_checkpoint(path)
    if checkpoint is None:
        return None
    module.load_state_dict(checkpoint["module"])
    average.state = {name: value.to(DEVICE) for name, value in checkpoint["average"].items()}
    for optimiser, state in zip(optimisers, checkpoint["optimisers"], strict=True):
        optimiser.load_state_dict(state)
    generator.set_state(checkpoint["generator"])
    torch.set_rng_state(checkpoint["global_generator"])
    return checkpoint["step"], checkpoint["start"]


def save_checkpoint(
    path: Path,
    module: nn.Module,
    average: MovingAverage,
    optimisers: list[torch.optim.Optimizer],
    generator: torch.Generator,
    step: int,
    start: int,
) -> None:
    """Write everything that a resumed run needs, atomically."""
    state = {
        "module": module.state_dict(),
        "average": average.state,
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "generator": generator.get_state(),
        "global_generator": torch.get_rng_state(),
        "step": step,
        "start": start,
    }
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def read_curve(name: str) -> list[str]:
    """Read the recorded lines of a model, each with its end."""
    path = CURVES_DIR / f"{name}.jsonl"
    return path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []


def count_steps(name: str) -> int:
    """Give the last recorded step of a model; 0 if there is none."""
    return max((json.loads(line)["step"] for line in read_curve(name)), default=0)


def cut_curve(name: str, step: int) -> None:
    """Forget what was recorded after a step, which a resumed run does again."""
    kept = "".join(line for line in read_curve(name) if json.loads(line)["step"] <= step)
    write_atomically(CURVES_DIR / f"{name}.jsonl", lambda temporary: temporary.write_text(kept, encoding="utf-8"))


def record(name: str, step: int, steps: int, figures: dict[str, float]) -> None:
    """Print figures and add them to the model's curve."""
    rounded = {key: round(value, 5) for key, value in figures.items()}
    print(f"{name} {step}/{steps} " + " ".join(f"{key}={value:.4f}" for key, value in rounded.items()), flush=True)
    with (CURVES_DIR / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **rounded}) + "\n")
