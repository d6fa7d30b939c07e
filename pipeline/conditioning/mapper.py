"""The modal mapper: [IMG] states of the language model -> token states of the diffusion model's text space (eq. 8, GILL).

SIGNATURES FIRST (bodies follow).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True)
class MapperShape:
    """Geometry of the mapper; the first four are params, the rest follows from the models."""

    d_model: int
    num_layers: int  # encoder layers, and as many decoder layers
    num_heads: int
    ffn_dim: int
    input_dim: int  # D, hidden size of the language model
    num_img_tokens: int  # L
    num_tokens: int  # K, length of an encoded prompt
    token_dim: int  # d, width of a token state


class ModalMapper(nn.Module):
    """GILL's mapper: fc, pre-norm encoder-decoder transformer with K learned queries, linear head."""

    def forward(self, img_states_BLD: torch.Tensor, img_vectors_LD: torch.Tensor) -> torch.Tensor:
        """Map states plus input vectors to (B, K, d)."""
        raise NotImplementedError


def save_mapper(path: Path, mapper: ModalMapper, img_vectors_LD: torch.Tensor, facts: dict[str, str]) -> None:
    """Write mapper.safetensors: weights, [IMG] vectors and, as metadata, the shape and facts."""
    raise NotImplementedError


def load_mapper(path: Path) -> tuple[ModalMapper, torch.Tensor, dict[str, str]]:
    """Read mapper.safetensors: mapper, [IMG] vectors (L, D), facts."""
    raise NotImplementedError
