"""Encode prompts in which a pseudo-word stands: V learned vectors in the place of rows of the text encoder's embedding table.

Legend: B prompts, V vectors of a pseudo-word, K tokens of an encoded text, E width of the embedding table, d token width.
Paper: Gal et al. 2023, section 4. Departures from its code and from diffusers' training script:
1. The table itself is neither enlarged nor trained: the vectors are spliced in where the table is read, one pseudo-word per prompt, so that
   the prompts of many users pass the encoder together.
2. A text too long for the encoder loses words of its own from the end, never the pseudo-word (`pipeline/models/text_budget.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pipeline.models.templates import STYLE, TEXT
from pipeline.models.text_budget import budget_tokenizer

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion


class PseudoWordEncoder:
    """The text encoder of a diffusion model, with a pseudo-word of V vectors; differentiable with respect to them."""

    def __init__(self, diffusion: Diffusion, *, num_vectors: int) -> None:
        self.diffusion, self.num_vectors = diffusion, num_vectors
        self._tokenizer = copy.deepcopy(diffusion.pipeline.tokenizer)
        self._first_id = len(self._tokenizer)
        self._names = [f"<pseudo{index}>" for index in range(num_vectors)]
        self._tokenizer.add_tokens(self._names, special_tokens=True)
        self._budget = budget_tokenizer(self._tokenizer)

    def init_vectors(self, word: str) -> torch.Tensor:
        """Return (V, E), float32 on the CPU: each vector is the mean embedding of the tokens of `word`; ValueError if it has none."""
        ids = self.diffusion.pipeline.tokenizer(word, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ValueError(f"the initial word {word!r} has no token; give an ordinary word such as 'style'.")
        table_VE = self.diffusion.pipeline.text_encoder.get_input_embeddings().weight
        return table_VE[ids].detach().float().mean(dim=0).cpu().expand(self.num_vectors, -1).clone()

    def write_prompt(self, template: str, text: str) -> str:
        """Fill a template with a text, as much of it as leaves room for the rest, and the pseudo-word."""
        named = template.replace(STYLE, " ".join(self._names))
        return self._budget.fit(" ".join(text.split()), lambda title: named.replace(TEXT, title)).text

    def encode(self, prompts: Sequence[str], vectors_BVE: torch.Tensor) -> torch.Tensor:
        """Encode prompts of `write_prompt`, each with its own vectors -> (B, K, d) float32 on the model's device."""
        encoder, device = self.diffusion.pipeline.text_encoder, self.diffusion.device
        tokens = self._tokenizer(list(prompts), padding="max_length", max_length=self.diffusion.num_tokens, truncation=True, return_tensors="pt")
        ids_BK = tokens["input_ids"].to(device)
        is_pseudo_BK = ids_BK >= self._first_id
        place_BK = (ids_BK - self._first_id).clamp(min=0)
        vectors_BVE = vectors_BVE.to(device)
        spliced_BKE = vectors_BVE.gather(1, place_BK[..., None].expand(-1, -1, vectors_BVE.shape[2]))

        def splice(_: object, __: object, embedded_BKE: torch.Tensor) -> torch.Tensor:
            return torch.where(is_pseudo_BK[..., None], spliced_BKE.to(embedded_BKE.dtype), embedded_BKE)

        uses_mask = getattr(encoder.config, "use_attention_mask", False)  # as diffusers decides it
        handle = encoder.get_input_embeddings().register_forward_hook(splice)
        try:
            states_BKD = encoder(ids_BK.masked_fill(is_pseudo_BK, 0), attention_mask=tokens["attention_mask"].to(device) if uses_mask else None)[0]
        finally:
            handle.remove()
        return states_BKD.float()
