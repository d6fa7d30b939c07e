"""Mapper, calibrator, [IMG] vectors and the balance of words and look as the one module that reflection trains and generation uses, and its file.

Legend: B cases, T text rows, L [IMG] tokens, M look tokens, K tokens of an encoded prompt, D language model width, d token width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.artifacts import read_tensors, write_tensors
from pipeline.conditioning.calibrator import BalanceCalibrator, GeneralPreference
from pipeline.conditioning.config import CalibratorConfig, PromptFormat
from pipeline.conditioning.look_balance import LookBalance
from pipeline.conditioning.mapper import MapperShape, ModalMapper, load_mapper, take_prefix


@dataclass(frozen=True)
class ConditionInputs:
    """The frozen inputs of a batch of cases, float32 on the CPU."""

    text_BTD: torch.Tensor  # E^txt (B, T, D): language model states of the last T text tokens
    text_mask_BT: torch.Tensor
    img_BLD: torch.Tensor  # E^img (B, L, D): language model states at the [IMG] vectors
    global_BKD: torch.Tensor  # E^g (B, K, d)
    global_mask_BK: torch.Tensor
    look_BMD: torch.Tensor | None = None  # look tokens, where cases have any

    def select(self, indices: Sequence[int]) -> ConditionInputs:
        """Return the rows at `indices`, in that order."""
        index = torch.as_tensor(list(indices), dtype=torch.long)
        tensors = (getattr(self, field.name) for field in dataclasses.fields(self))
        return ConditionInputs(*(None if tensor is None else tensor[index] for tensor in tensors))

    def __len__(self) -> int:
        return len(self.text_BTD)


class Conditioner(nn.Module):
    """From cached inputs to P^gen; trainable are mapper, calibrator and the balance of words and look, the [IMG] vectors are a frozen buffer."""

    def __init__(
        self,
        mapper: ModalMapper,
        calibrator: BalanceCalibrator,
        img_vectors_LD: torch.Tensor,
        prompt_format: PromptFormat,
        look: LookBalance | None = None,
    ) -> None:
        super().__init__()
        self.mapper = mapper
        self.calibrator = calibrator
        self.look = look
        self.prompt_format = prompt_format
        self.img_vectors_LD: torch.Tensor
        self.register_buffer("img_vectors_LD", img_vectors_LD.detach().clone())

    def list_facts(self) -> list[object]:
        """List all that decides what the module computes: shapes, settings and weights."""
        return [self.mapper.shape, self.calibrator.config, self.state_dict()]

    def forward(self, inputs: ConditionInputs) -> GeneralPreference:
        """Compute P^gen of a batch, on the module's device."""
        device = self.img_vectors_LD.device
        names = ("text_BTD", "text_mask_BT", "img_BLD", "global_BKD", "global_mask_BK")
        text_BTD, mask_BT, img_BLD, global_BKD, global_mask_BK = (getattr(inputs, name).to(device) for name in names)
        mapped_BKD = self.mapper(img_BLD, self.img_vectors_LD)
        preference = self.calibrator(text_BTD, mask_BT, mapped_BKD, global_BKD, global_mask_BK)
        if self.look is None or inputs.look_BMD is None:
            return preference
        tokens_BMD = inputs.look_BMD.to(device)
        return replace(preference, tokens_BMD=tokens_BMD, action_BA=self.look(tokens_BMD, global_BKD, global_mask_BK))


def build_conditioner(mapper_path: Path, config: CalibratorConfig, *, generator: torch.Generator) -> tuple[Conditioner, dict[str, Any]]:
    """Build the starting point of reflection: the trained mapper and the calibrator as stage 0 left it, untrained if it did not train one.

    Also returns the mapper's facts; ValueError if stage 0 trained another kind of calibrator.
    """
    mapper, img_vectors_LD, facts = load_mapper(mapper_path)
    calibrator = BalanceCalibrator(config, llm_dim=mapper.shape.input_dim, token_dim=mapper.shape.token_dim, generator=generator)
    trained = take_prefix(read_tensors(mapper_path)[0], "calibrator.")
    if trained and trained.keys() != calibrator.state_dict().keys():
        raise ValueError(f"the calibrator in {mapper_path} is not one of attention {config.attention!r}: run the stage mapper again.")
    if trained:
        calibrator.load_state_dict(trained)
    prompt_format = PromptFormat(**facts.pop("prompt_format"))
    return Conditioner(mapper, calibrator, img_vectors_LD, prompt_format), facts


def save_conditioner(path: Path, conditioner: Conditioner, facts: dict[str, Any]) -> None:
    """Write all weights as safetensors; shapes, config, prompt format and JSON-able facts go into its metadata."""
    described = {
        "mapper_shape": dataclasses.asdict(conditioner.mapper.shape),
        "calibrator": dataclasses.asdict(conditioner.calibrator.config),
        "prompt_format": dataclasses.asdict(conditioner.prompt_format),
    }
    write_tensors(path, conditioner.state_dict(), {**facts, **described})


def load_conditioner(path: Path) -> tuple[Conditioner, dict[str, Any]]:
    """Read a file of `save_conditioner`, in eval mode, and its facts."""
    tensors, facts = read_tensors(path)
    if "calibrator" not in facts:
        raise ValueError(f"{path} is no calibrator file: run the stage reflection.")
    shape = MapperShape(**facts.pop("mapper_shape"))
    unused = torch.Generator()  # every initial weight is overwritten; the global generator stays untouched
    mapper = ModalMapper(shape, generator=unused)
    config = CalibratorConfig(**facts.pop("calibrator"))
    calibrator = BalanceCalibrator(config, llm_dim=shape.input_dim, token_dim=shape.token_dim, generator=unused)
    prompt_format = PromptFormat(**facts.pop("prompt_format"))
    look = LookBalance(tensors["look.direction_PMD"], tensors["look.no_look_MD"]) if "look.direction_PMD" in tensors else None
    conditioner = Conditioner(mapper, calibrator, tensors["img_vectors_LD"], prompt_format, look)
    conditioner.load_state_dict(tensors)
    return conditioner.eval(), facts
