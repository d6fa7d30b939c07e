"""The modal mapper: [IMG] states of the language model -> token states of the diffusion model's text space (eq. 8), as in GILL.

Legend: B rows, L [IMG] tokens, D language model width, K tokens of an encoded prompt, d token width.
Source: Koh, Fried, Salakhutdinov, NeurIPS 2023, mode `gill_mapper`; parameter names are GILL's without their prefix.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.artifacts import read_tensors, write_tensors
from pipeline.config import Count, config_dataclass


@config_dataclass
class MapperShape:
    """Geometry of a mapper; all of it is stored with the weights."""

    d_model: Count
    num_layers: Count  # of the encoder, and as many of the decoder
    num_heads: Count
    ffn_dim: Count
    input_dim: Count  # D
    num_img_tokens: Count  # L
    num_tokens: Count  # K
    token_dim: Count  # d

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ValueError(f"mapper d_model {self.d_model} is not divisible by num_heads {self.num_heads}.")


class ModalMapper(nn.Module):
    """A linear layer, an encoder-decoder transformer with K learned queries, and a linear layer; no normalisation at the end."""

    def __init__(self, shape: MapperShape, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.fc = nn.Linear(shape.input_dim, shape.d_model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that pre-norm does not take its nested-tensor path
            self.tfm = nn.Transformer(
                d_model=shape.d_model,
                nhead=shape.num_heads,
                num_encoder_layers=shape.num_layers,
                num_decoder_layers=shape.num_layers,
                dim_feedforward=shape.ffn_dim,
                dropout=0.0,
                norm_first=True,
                batch_first=True,
            )
        self.model = nn.Linear(shape.d_model, shape.token_dim)
        self.query_embs = nn.Parameter(torch.zeros(1, shape.num_tokens, shape.d_model))
        init_weights(self, generator)

    def forward(self, img_states_BLD: torch.Tensor, img_vectors_LD: torch.Tensor) -> torch.Tensor:
        """Map [IMG] states, to which GILL adds the [IMG] vectors themselves, to token states (B, K, d)."""
        hidden_BLM = self.fc(img_states_BLD + img_vectors_LD)
        queries_BKM = self.query_embs.expand(len(hidden_BLM), -1, -1)
        return self.model(self.tfm(hidden_BLM, queries_BKM))


def init_weights(mapper: ModalMapper, generator: torch.Generator | None) -> None:
    """Initialise from `generator` only: Xavier for matrices (nn.Transformer's own rule), zero biases, N(0, 1) queries."""
    for name, parameter in mapper.named_parameters():
        if name == "query_embs":
            nn.init.normal_(parameter, generator=generator)
        elif parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.ones_(parameter)  # normalisation weights


def compute_gill_loss(mapped_BKD: torch.Tensor, target_BKD: torch.Tensor) -> torch.Tensor:
    """GILL's generation loss: the mean over rows and tokens of the Euclidean distance over d (not a squared error)."""
    if mapped_BKD.shape != target_BKD.shape:
        raise ValueError(f"mapper output {tuple(mapped_BKD.shape)} and target {tuple(target_BKD.shape)} differ in shape.")
    return (mapped_BKD - target_BKD).norm(dim=-1).mean()


def save_mapper(
    path: Path, mapper: ModalMapper, img_vectors_LD: torch.Tensor, facts: dict[str, Any], *, calibrator: dict[str, torch.Tensor] | None = None
) -> None:
    """Write weights, [IMG] vectors and, if stage 0 trained one, the calibrator's weights; shape and JSON-able facts go into its metadata."""
    tensors = {f"mapper.{name}": value for name, value in mapper.state_dict().items()}
    tensors |= {f"calibrator.{name}": value for name, value in (calibrator or {}).items()}
    write_tensors(path, {**tensors, "img_vectors": img_vectors_LD}, {**facts, "mapper_shape": dataclasses.asdict(mapper.shape)})


def load_mapper(path: Path) -> tuple[ModalMapper, torch.Tensor, dict[str, Any]]:
    """Read a file of `save_mapper`: the mapper, the [IMG] vectors (L, D), the facts."""
    tensors, facts = read_tensors(path)
    if "mapper_shape" not in facts or "img_vectors" not in tensors:
        raise ValueError(f"{path} is no mapper file: run the stage mapper.")
    mapper = ModalMapper(MapperShape(**facts.pop("mapper_shape")), generator=torch.Generator())
    mapper.load_state_dict(take_prefix(tensors, "mapper."))
    return mapper, tensors["img_vectors"], facts


def take_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
