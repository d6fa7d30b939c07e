"""A method that copies an item's own image, decoded and stored again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.data.cases import Case
from pipeline.data.images import ImageError, decode_image
from pipeline.generation.context import Drawing, GenerationContext
from pipeline.rows import Rejection


@dataclass
class CopyMethod:
    """Copy the image of `choose_item(case)`."""

    context: GenerationContext
    choose_item: Callable[[Case], str | None]

    identity = "copy"
    ledger = "copy"  # shared by both: a reference may be another case's truth

    def __post_init__(self) -> None:
        self.choose_item = cache(self.choose_item)  # chosen once, for the row's key: what is copied is what the key names

    def describe(self, case: Case) -> object | Rejection:
        """A copy depends on the item's image."""
        item_id = self.choose_item(case)
        if item_id is None:
            return Rejection("The data set knows no truth for this case.")
        digest = self.context.read_item(item_id, "image_sha256")
        return Rejection(f"The item {item_id} is not among the items.") if digest is None else {"image_sha256": digest}

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Decode the items' images."""
        return [self._copy(self.choose_item(case)) for case in cases]

    def _copy(self, item_id: str | None) -> Drawing:
        assert item_id is not None, "describe rejects such cases"
        try:
            return np.asarray(decode_image(self.context.read_image(item_id)))
        except ImageError as error:
            return Rejection(f"The image of {item_id} cannot be used: {error}")
