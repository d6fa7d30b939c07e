"""Training checkpoints that outlive a crash."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import read_tensors, write_tensors
from pipeline.work import work_dir

if TYPE_CHECKING:
    import torch


def save_checkpoint(stage: str, fingerprint: str, *, step: int, tensors: dict[str, torch.Tensor], facts: dict[str, Any] | None = None) -> None:
    """Replace the training checkpoint of `stage`: everything that the next step needs, `step` = steps finished."""
    path = work_dir() / stage.replace("@", "/") / fingerprint[:32] / "checkpoint.safetensors"
    write_tensors(path, tensors, {"step": step, "facts": facts or {}})


def load_checkpoint(stage: str, fingerprint: str) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return (steps finished, tensors, facts) of the last checkpoint, or None; a damaged one counts as none."""
    path = work_dir() / stage.replace("@", "/") / fingerprint[:32] / "checkpoint.safetensors"
    if not path.is_file():
        return None
    try:
        tensors, metadata = read_tensors(path)
        return int(metadata["step"]), tensors, metadata["facts"]
    except (ValueError, KeyError, json.JSONDecodeError) as error:
        print(f"warning: {path.name} of {stage} is damaged ({error}); training starts again", flush=True)
        return None


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return an optimiser's state (one tensor per parameter and name, `step` included) under names that `restore_optimizer` reads."""
    import torch

    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{name}": torch.as_tensor(value) for index, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put the state written by `flatten_optimizer` back; other names in `tensors` are left alone."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    current = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})
