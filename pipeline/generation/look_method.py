"""A method that draws the reference's text with the look of some pictures, as image prompts of IP-Adapter (Ye et al. 2023) do.

The look tokens are those of `models.look`, of the pictures' plain mean. Nothing is retrieved, no language model is asked, and nothing is trained
on users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.data.cases import Case
from pipeline.generation.context import Drawing, GenerationContext
from pipeline.looks.read import read_looks
from pipeline.models.lazy import LazyModel
from pipeline.models.look import LookMap
from pipeline.rows import Rejection


@dataclass
class LookMethod:
    """Write the look tokens of the pictures of `choose_items(case)` behind the reference's text, and draw."""

    context: GenerationContext
    look: LazyModel[LookMap]
    choose_items: Callable[[Case], list[str] | Rejection]  # items whose pictures have a vector
    ledger: str

    @property
    def identity(self) -> object:
        """The diffusion model, the sampler and the look map."""
        return {**self.context.describe_sampler(), **self.context.describe_look(self.look), "diffusion": self.context.diffusion.revision}

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on the reference's text, on what is seen in the pictures and what they are called, and on the case."""
        prompt, items = self.context.fit_text(case.reference_id), self.choose_items(case)
        if not prompt.strip():
            return Rejection("The reference has neither a text nor a caption.")
        if isinstance(items, Rejection):
            return items
        called = [self.context.read_text(item_id) for item_id in items]
        return {"prompt": prompt, "called": called, "pictures": self.stack_visual(items).tobytes(), **self.context.describe_case(case)}

    def list_prompts(self, case: Case) -> list[str]:
        """List the one prompt before it was shortened."""
        return [self.context.read_text(case.reference_id)]

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Encode text and look, and draw."""
        diffusion, look = self.context.diffusion.model, self.look.model
        states_BKD, _ = diffusion.encode_prompts([self.context.fit_text(case.reference_id) for case in cases])
        chosen = (self.choose_items(case) for case in cases)  # `describe` has rejected cases without any
        tokens_BMD = torch.stack([self.write_tokens(items) for items in chosen if not isinstance(items, Rejection)])
        return list(self.context.draw_prompts(diffusion, states_BKD, cases, look=self.context.build_look(look, tokens_BMD)))

    @torch.no_grad()
    def write_tokens(self, items: Sequence[str]) -> torch.Tensor:
        """Return the look tokens (M, d) of the items' plain mean."""
        look_NF = read_looks(
            self.look.model,
            torch.from_numpy(self.stack_visual(items)),
            [self.context.read_text(item_id) for item_id in items],
            self.context.diffusion.model,
        )
        return self.look.model.write_tokens(look_NF[None], torch.full((1, len(items)), 1 / len(items)))[0]

    def stack_visual(self, items: Sequence[str]) -> np.ndarray:
        """Return the visual vectors (N, V) of items that have one."""
        return np.stack([vector_V for item_id in items if (vector_V := self.context.find_visual(item_id)) is not None])
