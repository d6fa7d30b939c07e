"""A model that is loaded when it is first needed: where all rows are finished, none is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class LazyModel(Generic[T]):
    """`revision` names the exact weights and number format of what `load` returns, for the keys of what is computed with it."""

    revision: str
    load: Callable[[], T]

    @cached_property
    def model(self) -> T:
        """The model, loaded on first use."""
        return self.load()
