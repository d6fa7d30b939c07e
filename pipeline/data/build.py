"""Build the data set that the params name, by the adapter of that name."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from pipeline.data import adapters
from pipeline.data.dataset import Dataset
from pipeline.params import read_section


def build_dataset(params: Path, extra: Path, *, seed: int) -> Dataset:
    """Build the data set that the params' `dataset.name` asks for; `extra` is a folder of further item images."""
    name = read_section(params, "dataset.name")
    known = list_adapters()
    if name not in known:
        raise ValueError(f"{params}: dataset.name is {name!r}, but it must be one of: {', '.join(known)}.")
    module = importlib.import_module(f"{adapters.__name__}.{name}")
    try:
        return module.build_from_params(params, extra, seed)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read ({error.strerror}).") from error


def list_adapters() -> list[str]:
    """Return the names of all data sets, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(adapters.__path__))
