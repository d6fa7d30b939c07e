"""Language-model states of every case's prompt and the token states of its global prompt, computed once and shared through the ledger.

SIGNATURES FIRST (bodies follow).
"""

from __future__ import annotations

import pyarrow as pa
import torch

from pipeline.conditioning.calibrator import ConditionInputs
from pipeline.models.diffusion import Diffusion
from pipeline.models.llm import LanguageModel


def compute_condition_inputs(
    preferences: pa.Table,  # rows wanted, in this order
    *,
    language_model: LanguageModel,
    diffusion: Diffusion,
    img_vectors_LD: torch.Tensor,
    max_text_tokens: int,
    prefix: str,
    batch_size: int,
    fingerprint: str,  # model revisions; the [IMG] vectors and prompts are hashed here
) -> ConditionInputs:
    """Return the inputs of the calibrator for every row; rows that the ledger knows are not computed again."""
    raise NotImplementedError
