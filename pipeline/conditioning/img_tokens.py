"""The L [IMG] vectors that extend the language model's vocabulary (before eq. 7), kept outside of its embedding matrix.

Departure from GILL and the paper's wording ("expand its vocabulary"): the vectors are a parameter of their own, spliced into
the input embeddings after the prompt. No matrix is resized (Qwen's has spare rows that a resize would cut off) and no
optimiser can touch a frozen row.
"""

from __future__ import annotations

import torch


def init_img_vectors(num_tokens: int, mean_row_D: torch.Tensor, mean_norm: float, *, generator: torch.Generator) -> torch.Tensor:
    """Start (L, D) near the mean embedding row, each a different direction, all of the mean norm of the vocabulary's rows."""
    noise_LD = torch.randn(num_tokens, len(mean_row_D), generator=generator) * mean_norm / len(mean_row_D) ** 0.5
    return rescale_rows(mean_row_D + noise_LD, mean_norm)


def rescale_rows(vectors_LD: torch.Tensor, norm: float) -> torch.Tensor:
    """Scale every row to the Euclidean norm `norm` (GILL does so after every step)."""
    return vectors_LD * (norm / vectors_LD.norm(dim=1, keepdim=True).clamp(min=1e-12))
