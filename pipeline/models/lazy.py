"""A model that is loaded when it is first needed: where all rows are finished, none is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass
class LazyModel(Generic[T]):
    """`revision` names the exact weights and number format of what `load` returns, for the keys of what is computed with it."""

    revision: str
    load: Callable[[], T]

    KEPT_BY_WORKERS = True  # of a cluster (pipeline/cluster/parcels.py), each of which loads the model itself

    @cached_property
    def model(self) -> T:
        """The model, loaded on first use."""
        return self.load()

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the model."""
        return {name: value for name, value in vars(self).items() if name != "model"}
