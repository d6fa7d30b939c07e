"""The one place where pictures become look vectors: for RAGAR, for the baseline `ip_adapter`, and for cases that no run has seen.

An item's text vector is the mean of the diffusion model's own states over the text's tokens, so that no further encoder is needed.

Shapes: N items, V visual width, C text width, K tokens of an encoded text, U different texts, F look width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.look import LookMap

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion

BATCH = 64  # items a forward pass, filled up: so an item's look depends on it only


@torch.no_grad()
def read_looks(look: LookMap, visual_NV: Tensor, texts: Sequence[str], diffusion: Diffusion) -> Tensor:
    """Return the look vector of every item (N, F): what its visual vector shows beyond what its text predicts, through the nonlinear map."""
    check_fit(look, visual_NV.shape[1], diffusion)
    text_NC = encode_pooled(texts, diffusion)
    parts = []
    for start in range(0, len(visual_NV), BATCH):
        size = len(visual_NV[start : start + BATCH])
        batch = (functional.pad(vector_ND[start : start + BATCH].float(), (0, 0, 0, BATCH - size)) for vector_ND in (visual_NV, text_NC))
        parts.append(look.map_items(*batch)[:size])
    return torch.cat(parts)


def encode_pooled(texts: Sequence[str], diffusion: Diffusion) -> Tensor:
    """Return the unit mean of every text's token states (N, C), padding left out; equal texts are encoded once."""
    distinct = list(dict.fromkeys(texts))
    place_of = {text: place for place, text in enumerate(distinct)}
    states_UKC, mask_UK = diffusion.encode_prompts(distinct)
    mask_UK1 = mask_UK[:, :, None].to(states_UKC.dtype)
    pooled_UC = functional.normalize((states_UKC * mask_UK1).sum(dim=1) / mask_UK1.sum(dim=1).clamp(min=1.0), dim=-1)
    return pooled_UC[[place_of[text] for text in texts]]


def check_fit(look: LookMap, visual_dim: int, diffusion: Diffusion) -> None:
    """Raise ValueError if the map was trained for other encoders or another diffusion model."""
    shape = look.shape
    for name, trained, found in (
        ("visual vectors (models.visual)", shape.visual_dim, visual_dim),
        ("text states (models.diffusion)", shape.text_dim, diffusion.token_dim),
        ("tokens (models.diffusion)", shape.token_dim, diffusion.token_dim),
    ):
        if trained != found:
            raise ValueError(f"the look map (models.look) was trained for {name} of width {trained}, but they have {found}; name another map.")
