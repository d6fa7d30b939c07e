"""A method that draws from one text per case; its own prompt only, no personal part beyond what the text says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pipeline.data.cases import Case
from pipeline.generation.context import Drawing, GenerationContext
from pipeline.models.lazy import LazyModel
from pipeline.rows import Rejection

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion


@dataclass
class TextMethod:
    """Encode `write_prompt(case)` with the diffusion model's text encoder and draw it."""

    context: GenerationContext
    diffusion: LazyModel[Diffusion]
    write_prompt: Callable[[Case], str]
    reason: str  # why a case with an empty prompt is rejected
    write_whole: Callable[[Case], str] | None = None  # a prompt before it was shortened, where the method itself does that

    ledger = "text"  # shared by all of them: two methods that come to the same text draw it once

    def __post_init__(self) -> None:
        self.write_prompt = cache(self.write_prompt)  # written once, for the row's key: what is drawn is what the key names

    @property
    def identity(self) -> object:
        """The diffusion model, the sampler and what guidance leads away from."""
        sampler, negative_prompt = self.context.describe_sampler(), self.context.config.negative_prompt
        return {**sampler, "diffusion": self.diffusion.revision, "negative_prompt": negative_prompt}

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on its prompt and, through the noise, on the case."""
        prompt = self.write_prompt(case)
        return {"prompt": prompt, **self.context.describe_case(case)} if prompt.strip() else Rejection(self.reason)

    def list_prompts(self, case: Case) -> list[str]:
        """List the one prompt, unless another stage has shortened and counted it."""
        return [] if self.write_whole is None else [self.write_whole(case)]

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Encode and draw."""
        diffusion = self.diffusion.model
        states_BTD, _ = diffusion.encode_prompts([self.write_prompt(case) for case in cases])
        return list(self.context.draw_prompts(diffusion, states_BTD, cases))
