"""The calibrator's frozen inputs for every case: language model states of p_g, once for all stages, and token states of E^g (eq. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.conditioning.conditioner import Conditioner, ConditionInputs
from pipeline.conditioning.config import PromptFormat
from pipeline.conditioning.look_balance import LookBalance, find_directions
from pipeline.data.cases import Case
from pipeline.keywords.prompts import wrap_detailed_prompt
from pipeline.ledger import open_ledger
from pipeline.models.llm import LazyLanguageModel, PromptStates
from pipeline.models.look import unpack_tokens
from pipeline.rows import Row, map_rows

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.llm import LanguageModel

LEDGER = "conditioning"
COLUMNS = pa.schema([("text", pa.binary()), ("img", pa.binary())])


def compute_condition_inputs(
    preferences: Sequence[dict[str, Any]], *, llm: LazyLanguageModel, diffusion: Diffusion, conditioner: Conditioner, batch_size: int
) -> ConditionInputs:
    """Return the inputs of the rows (each with `global_prompt` and `detailed_prompt`, perhaps with a `look`), in their order.

    Language model states go through the ledger, so that reflection and generation compute each prompt once between them.
    """
    check_fit(conditioner, diffusion)
    states = compute_prompt_states(
        [row["detailed_prompt"] for row in preferences],
        llm=llm,
        img_vectors_LD=conditioner.img_vectors_LD.cpu(),
        prompt_format=conditioner.prompt_format,
        batch_size=batch_size,
    )
    global_BKD, global_mask_BK = diffusion.encode_prompts([row["global_prompt"] for row in preferences])
    look_BMD = None if conditioner.look is None else stack_looks(preferences, conditioner.look.no_look_MD.cpu())
    return ConditionInputs(states.text_BTD, states.mask_BT, states.img_BLD, global_BKD, global_mask_BK, look_BMD)


def build_balance(cases: Sequence[Case], no_look_MD: torch.Tensor, *, count: int) -> LookBalance:
    """Build the untrained balance of words and look, whose directions are those of the cases' looks."""
    tokens_NMD = stack_looks([vars(case) for case in cases], no_look_MD.detach())
    return LookBalance(find_directions(tokens_NMD, count=count), no_look_MD)


def stack_looks(preferences: Sequence[dict[str, Any]], no_look_MD: torch.Tensor) -> torch.Tensor:
    """Return the look tokens (B, M, d) of the rows; one without any has those that say nothing of a look."""
    return torch.stack([unpack_tokens(row.get("look", b""), no_look_MD) for row in preferences])


def check_fit(conditioner: Conditioner, diffusion: Diffusion) -> None:
    """Raise ValueError if the mapper was trained for another diffusion model."""
    shape = conditioner.mapper.shape
    trained, found = (shape.num_tokens, shape.token_dim), (diffusion.num_tokens, diffusion.token_dim)
    if trained != found:
        raise ValueError(f"the mapper was trained for prompts of (tokens, width) {trained}, but the diffusion model has {found}.")


def compute_prompt_states(
    prompts: Sequence[str], *, llm: LazyLanguageModel, img_vectors_LD: torch.Tensor, prompt_format: PromptFormat, batch_size: int
) -> PromptStates:
    """Compute (or read back) the states of each p_g followed by the [IMG] vectors, float32 on the CPU."""

    def compute(rows: list[Row]) -> list[dict[str, bytes]]:
        with torch.inference_mode():
            states = run_prompts([row.payload for row in rows], llm.model, img_vectors_LD, prompt_format)
        if not (states.text_BTD.isfinite().all() and states.img_BLD.isfinite().all()):
            raise ValueError(f"the language model's states are not finite in {llm.dtype}; set models.language_model_dtype to float32.")
        return [
            {"text": to_bytes(text_TD[mask_T], llm.dtype), "img": to_bytes(img_LD, llm.dtype)}
            for text_TD, mask_T, img_LD in zip(states.text_BTD, states.mask_BT, states.img_BLD, strict=True)
        ]

    decides = (llm.revision, str(llm.dtype), prompt_format, img_vectors_LD.numpy().tobytes(), batch_size)
    rows = [Row(prompt, prompt, prompt) for prompt in sorted(set(prompts))]
    with open_ledger(LEDGER, COLUMNS, code=[run_prompts], inputs=decides) as ledger:
        values = map_rows(ledger, rows, compute, batch_size=batch_size, label=LEDGER, prepare=lambda: llm.model).values
    shape = (prompt_format.max_text_tokens, img_vectors_LD.shape[1])
    return stack_states([values[prompt] for prompt in prompts], llm.dtype, shape=shape)


def run_prompts(prompts: Sequence[str], language_model: LanguageModel, img_vectors_LD: torch.Tensor, prompt_format: PromptFormat) -> PromptStates:
    """Run p_g followed by the [IMG] vectors through the language model; differentiable with respect to the vectors."""
    wrapped = [wrap_detailed_prompt(prompt, language_model, prompt_style=prompt_format.prompt_style) for prompt in prompts]
    return language_model.forward_states(
        [prompt for _, prompt in wrapped], img_vectors_LD, prefix=wrapped[0][0], max_text_tokens=prompt_format.max_text_tokens
    )


def stack_states(values: Sequence[dict[str, bytes]], dtype: torch.dtype, *, shape: tuple[int, int]) -> PromptStates:
    """Put stored rows together; `shape` is (T, D), and shorter texts are filled up with zeros."""
    text_BTD = torch.zeros(len(values), *shape)
    mask_BT = torch.zeros(len(values), shape[0], dtype=torch.bool)
    for row, value in enumerate(values):
        text_TD = from_bytes(value["text"], dtype).reshape(-1, shape[1])
        text_BTD[row, : len(text_TD)] = text_TD
        mask_BT[row, : len(text_TD)] = True
    return PromptStates(text_BTD, mask_BT, torch.stack([from_bytes(value["img"], dtype).reshape(-1, shape[1]) for value in values]))


def to_bytes(tensor: torch.Tensor, dtype: torch.dtype) -> bytes:
    """Return the raw bytes of float32 states that a model of `dtype` produced: nothing is lost."""
    return tensor.cpu().to(dtype).contiguous().view(torch.uint8).numpy().tobytes()


def from_bytes(data: bytes, dtype: torch.dtype) -> torch.Tensor:
    """Return the flat float32 tensor of `to_bytes`."""
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy()).view(dtype).float()
