"""A method that draws the reference's text after some pictures with an official IP-Adapter, where `models.ip_adapter` names one.

The image prompt is the plain mean of the pictures' embeddings. Nothing is retrieved, no language model is asked, and nothing is trained on users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pipeline.data.cases import Case
from pipeline.data.images import decode_batch
from pipeline.generation.context import Drawing, GenerationContext
from pipeline.models.ip_adapter import AdaptedDiffusion
from pipeline.models.lazy import LazyModel
from pipeline.rows import Rejection


@dataclass
class AdapterMethod:
    """Draw the reference's text after the pictures of `choose_items(case)`."""

    context: GenerationContext
    adapted: LazyModel[AdaptedDiffusion]  # its revision names the adapter
    choose_items: Callable[[Case], list[str] | Rejection]
    ledger: str

    @property
    def identity(self) -> object:
        """The diffusion model, the sampler, the adapter and its weight."""
        adapter = {"ip_adapter": self.adapted.revision, "ip_adapter_scale": self.context.config.ip_adapter_scale}
        return {**self.context.describe_sampler(), **adapter, "diffusion": self.context.diffusion.revision}

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on the reference's text, on the pictures, and on the case."""
        prompt, items = self.context.fit_text(case.reference_id), self.choose_items(case)
        if not prompt.strip():
            return Rejection("The reference has neither a text nor a caption.")
        if isinstance(items, Rejection):
            return items
        pictures = [self.context.read_item(item_id, "image_sha256") for item_id in items]
        return {"prompt": prompt, "pictures": pictures, **self.context.describe_case(case)}

    def list_prompts(self, case: Case) -> list[str]:
        """List the one prompt before it was shortened."""
        return [self.context.read_text(case.reference_id)]

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Encode texts and pictures, and draw."""
        adapted = self.adapted.model
        states_BKD, _ = adapted.encode_prompts([self.context.fit_text(case.reference_id) for case in cases])
        chosen = (self.choose_items(case) for case in cases)  # `describe` has rejected cases without any
        with adapted.follow(torch.stack([self.encode(items) for items in chosen if not isinstance(items, Rejection)])):
            return list(self.context.draw_prompts(adapted, states_BKD, cases))

    def encode(self, items: Sequence[str]) -> torch.Tensor:
        """Return the mean embedding (E,) of the items' pictures; a picture that cannot be decoded is seen as white, as everywhere."""
        encoded = self.context.images.read(list(items))
        pictures, _ = decode_batch([encoded[item_id] for item_id in items])
        return self.adapted.model.encode_pictures(pictures).mean(dim=0)
