"""Method `ti`: Stable Diffusion with the reference's text and the user's pseudo-word in one prompt (paper: the baseline TI).

The vectors are those of the stage `ti`; the method `ti_retrieved` has a pseudo-word per case instead.
Departure: the paper does not say how it prompts; `ti.template` is the prompt of training as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.artifacts import get_matrix, read_provenance, read_table
from pipeline.data.cases import Case
from pipeline.generation.context import Drawing, GenerationContext, Method
from pipeline.models.pseudo_words import PseudoWordEncoder
from pipeline.models.templates import STYLE, TEXT
from pipeline.rows import Rejection
from pipeline.schemas import PSEUDO_WORDS, Table


@dataclass
class TextualInversionMethod:
    """Encode the prompt with the user's learned vectors spliced in, and draw it."""

    context: GenerationContext
    vectors: dict[str, np.ndarray]  # (V, E) by what `owner` says
    template: str  # the one that the vectors were trained with
    owner: str = "user_id"  # or case_id: the field of a case whose pseudo-word it is drawn with

    ledger = "ti"

    @property
    def identity(self) -> object:
        """The diffusion model, the sampler, the template and what guidance leads away from."""
        return {
            **self.context.describe_sampler(),
            "diffusion": self.context.diffusion.revision,
            "template": self.template,
            "negative_prompt": self.context.config.negative_prompt,
        }

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on the reference's text, the user's vectors and, through the noise, on the case."""
        text, vectors_VE = self.context.read_text(case.reference_id), self.vectors.get(self.get_owner(case))
        if not text:
            return Rejection("The reference has neither a text nor a caption.")
        if vectors_VE is None:
            return Rejection(f"No pseudo-word was learned for this {self.owner.removesuffix('_id')}.")
        return {"text": text, "vectors": vectors_VE.tobytes(), **self.context.describe_case(case)}

    def list_prompts(self, case: Case) -> list[str]:
        """List the one prompt; any short word counts as much as a vector."""
        pseudo_word = " ".join("x" for _ in self.vectors[self.get_owner(case)])
        return [self.template.replace(STYLE, pseudo_word).replace(TEXT, self.context.read_text(case.reference_id))]

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Encode and draw."""
        diffusion = self.context.diffusion.model
        vectors_BVE = torch.from_numpy(np.stack([self.vectors[self.get_owner(case)] for case in cases]))
        encoder = PseudoWordEncoder(diffusion, num_vectors=vectors_BVE.shape[1])
        prompts = [encoder.write_prompt(self.template, self.context.read_text(case.reference_id)) for case in cases]
        with torch.inference_mode():
            prompt_BKD = encoder.encode(prompts, vectors_BVE)
        return list(self.context.draw_prompts(diffusion, prompt_BKD, cases))

    def get_owner(self, case: Case) -> str:
        """Return the user or case whose vectors the case is drawn with."""
        return getattr(case, self.owner)


def build_method(context: GenerationContext) -> Method:
    """Build the method from the table of every user's vectors."""
    return build_inversion(context, PSEUDO_WORDS)


def build_inversion(context: GenerationContext, kind: Table) -> Method:
    """Build the method from a table of vectors, of users or of cases."""
    path, (owner,) = context.get_file("vectors"), kind.key
    table, facts = read_table(path, kind), read_provenance(path)
    rows = zip(table[owner].to_pylist(), get_matrix(table, "vectors"), strict=True)
    vectors = {owner_id: vector_E.reshape(facts["num_vectors"], -1) for owner_id, vector_E in rows}
    return TextualInversionMethod(context, vectors, facts["template"], owner)
