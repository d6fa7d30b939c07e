"""Method `ragar`: the image of the general preference P^gen, after reflection (paper: eq. 7-9).

Departure: where the stage preference wrote look tokens (`preference.visual_tokens`), they stand behind P^gen, and guidance leads to the words
first and from there to the look. A case without a history to look at has the tokens that say nothing of a look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from pipeline.conditioning.calibrator import GeneralPreference
from pipeline.conditioning.conditioner import Conditioner, ConditionInputs, load_conditioner
from pipeline.conditioning.states import compute_condition_inputs
from pipeline.data.cases import Case
from pipeline.fingerprint import compute_fingerprint
from pipeline.generation.context import Drawing, GenerationContext, Method
from pipeline.models.lazy import LazyModel
from pipeline.models.llm import LazyLanguageModel, prepare_language_model
from pipeline.models.look import LookMap, prepare_look_map, unpack_tokens
from pipeline.params import read_section
from pipeline.rows import Rejection

if TYPE_CHECKING:
    from pipeline.models.diffusion import LookPrompt


@dataclass
class RagarMethod:
    """Compute P^gen with the trained mapper and calibrator from cached language model states, and draw it."""

    context: GenerationContext
    conditioner: LazyModel[Conditioner]
    llm: LazyLanguageModel
    states_batch_size: int  # prompts that the language model reads at once
    look: LazyModel[LookMap] | None = None

    ledger = "ragar"

    @property
    def identity(self) -> object:
        """The diffusion model, the language model and the trained conditioner."""
        return {
            **self.context.describe_sampler(),
            **self.context.describe_look(self.look),
            "diffusion": self.context.diffusion.revision,
            "language_model": f"{self.llm.revision} {self.llm.dtype} {self.states_batch_size}",
            "conditioner": self.conditioner.revision,
        }

    @cached_property
    def _inputs(self) -> ConditionInputs:
        """The conditioner's inputs of all cases: one map over rows, so that they are read back where reflection or an earlier run had them."""
        return compute_condition_inputs(
            [vars(case) for case in self.context.cases],
            llm=self.llm,
            diffusion=self.context.diffusion.model,
            conditioner=self.conditioner.model,
            batch_size=self.states_batch_size,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Travel with the inputs of all cases: they are a map of their own, of the process that holds the ledgers."""
        assert self._inputs is not None
        return vars(self)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {case.case_id: row for row, case in enumerate(self.context.cases)}

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on both prompts, on the look and, through the noise, on the case."""
        look = {"look": case.look} if self.look is not None else {}
        return {"global_prompt": case.global_prompt, "detailed_prompt": case.detailed_prompt, **look, **self.context.describe_case(case)}

    def list_prompts(self, case: Case) -> list[str]:
        """The prompts are those of the stage preference, which has counted them."""
        return []

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Compute P^gen and draw."""
        with torch.inference_mode():
            preference = self.conditioner.model(self._inputs.select([self._row_of[case.case_id] for case in cases]))
            look = None if self.look is None else self.set_look(self.look.model, preference, cases)
        return list(self.context.draw_prompts(self.context.diffusion.model, preference.prompt_BTD, cases, look=look))

    def set_look(self, look: LookMap, preference: GeneralPreference, cases: Sequence[Case]) -> LookPrompt:
        """Return the look tokens as the calibrator sets them; one that was trained without looks leaves them as they come."""
        balance = self.conditioner.model.look
        if balance is None or preference.tokens_BMD is None or preference.action_BA is None:
            return self.context.build_look(look, torch.stack([unpack_tokens(case.look, look.no_look_MD.detach()) for case in cases]))
        return self.context.build_look(look, balance.set_look(preference.tokens_BMD, preference.action_BA))


def build_method(context: GenerationContext) -> Method:
    """Build the method from the calibrator's file."""
    path = context.get_file("calibrator")
    conditioner = LazyModel(compute_fingerprint(path.read_bytes()), lambda: load_conditioner(path)[0].to(context.device))
    llm = prepare_language_model(context.params, context.device)
    look = prepare_look_map(context.params) if context.has_looks else None
    return RagarMethod(context, conditioner, llm, read_section(context.params, "mapper.states_batch_size"), look)
