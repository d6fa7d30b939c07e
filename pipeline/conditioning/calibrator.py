"""The balance calibrator: cross-attention of the detailed preference E^d over the global preference E^g, plus E^g itself (eq. 9).

SIGNATURES FIRST (bodies follow). Legend: B cases, T text rows, K tokens of an encoded prompt, D language model width, d token width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from pipeline.conditioning.mapper import ModalMapper


@dataclass(frozen=True)
class CalibratorConfig:
    """Params `calibrator`."""

    fusion: Literal["concat", "residual_add"]
    attention: Literal["learned", "literal"]


@dataclass(frozen=True)
class GeneralPreference:
    """P^gen of a batch with what losses need to know about its rows."""

    prompt_BTD: torch.Tensor  # P^gen (B, T + K + K, d): [attention rows of text ; attention rows of mapper ; E^g passed through]
    pool_mask_BT: torch.Tensor  # bool (B, T + K + K): the attention rows that are real (no padding, no pass-through): rows that L_cal pools
    mapped_BKD: torch.Tensor  # phi_m(E^img) (B, K, d): what L_sem compares with the token states of cap_N


class BalanceCalibrator(nn.Module):
    """Text projection, learned queries and keys, values = E^g unprojected."""

    def forward(
        self,
        text_BTD: torch.Tensor,  # E^txt (B, T, D)
        text_mask_BT: torch.Tensor,  # bool
        mapped_BKD: torch.Tensor,  # phi_m(E^img) (B, K, d)
        global_BKD: torch.Tensor,  # E^g (B, K, d)
        global_mask_BK: torch.Tensor,  # bool, True at tokens that are not padding (from Diffusion.encode_prompts)
    ) -> GeneralPreference:
        """Compute P^gen."""
        raise NotImplementedError


class Conditioner(nn.Module):
    """What reflection trains: mapper and calibrator together; [IMG] vectors are a frozen buffer `img_vectors_LD`."""

    mapper: ModalMapper
    calibrator: BalanceCalibrator

    def forward(self, inputs: "ConditionInputs") -> GeneralPreference:
        """Compute P^gen of a batch of cached inputs (differentiable in mapper and calibrator)."""
        raise NotImplementedError


@dataclass(frozen=True)
class ConditionInputs:
    """Frozen inputs of a batch of cases, all float32 on the CPU."""

    text_BTD: torch.Tensor  # language model states of the last T text tokens
    text_mask_BT: torch.Tensor
    img_BLD: torch.Tensor  # language model states at [IMG]
    global_BKD: torch.Tensor  # E^g
    global_mask_BK: torch.Tensor

    def select(self, indices: list[int] | torch.Tensor) -> "ConditionInputs":
        """Return the rows `indices`."""
        raise NotImplementedError


def save_conditioner(path: Path, conditioner: Conditioner, facts: dict[str, str]) -> None:
    """Write calibrator.safetensors: calibrator, mapper and [IMG] vectors, shapes in the metadata."""
    raise NotImplementedError


def load_conditioner(path: Path) -> tuple[Conditioner, dict[str, str]]:
    """Read calibrator.safetensors."""
    raise NotImplementedError


def build_conditioner(mapper_path: Path, config: CalibratorConfig, *, llm_dim: int, generator: torch.Generator) -> Conditioner:
    """Build the starting point of reflection: the trained mapper and an untrained calibrator."""
    raise NotImplementedError
