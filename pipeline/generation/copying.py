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

    def list_prompts(self, case: Case) -> list[str]:
        """A copy needs no prompt."""
        return []

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Decode the items' images; `describe` has rejected cases without one."""
        item_ids = [item_id for case in cases if (item_id := self.choose_item(case)) is not None]
        encoded = self.context.images.read(item_ids)
        return [copy_image(item_id, encoded[item_id]) for item_id in item_ids]


def copy_image(item_id: str, data: bytes) -> Drawing:
    """Decode an item's image, or say why it cannot be used."""
    try:
        return np.asarray(decode_image(data))
    except ImageError as error:
        return Rejection(f"The image of {item_id} cannot be used: {error}")
