"""What the stages that train share: the params that they open with, and the files that they leave beside their tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from pipeline.cost import describe_training, keep_cost
from pipeline.json_files import write_json
from pipeline.params import load_params, load_seed
from pipeline.runtime import load_runtime, resolve_device
from pipeline.spreadsheets import write_csv

if TYPE_CHECKING:
    import torch

Config = TypeVar("Config")


class Opening(NamedTuple, Generic[Config]):
    """A stage's own block of the params, and what all trainings take from the others."""

    config: Config
    seed: int
    device: torch.device
    checkpoint_every: int


def open_training(params: Path, section: str, config_class: type[Config]) -> Opening[Config]:
    """Load the params of a stage that trains, and choose its device."""
    config, seed, runtime = load_params(params, section, config_class), load_seed(params), load_runtime(params)
    return Opening(config, seed, resolve_device(runtime), runtime.checkpoint_every)


def write_training(
    made: Path, *, metrics: dict[str, Any], curves: Sequence[dict[str, Any]], columns: Sequence[str], seconds: float, device: torch.device
) -> None:
    """Write metrics.json and curves.csv beside the file that the training has `made`, and keep what it cost."""
    write_json(made.with_name("metrics.json"), metrics)
    write_csv(made.with_name("curves.csv"), curves, columns)
    keep_cost(made, describe_training(seconds, device))
