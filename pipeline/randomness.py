"""Randomness by name: what is drawn for a row follows from the seed and the row's own name, and from nothing else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def make_generator(seed: int, *names: str) -> torch.Generator:
    """Make a CPU generator seeded from a hash of (seed, names), so that a row's randomness depends on nothing else."""
    import torch

    digest = hashlib.sha256("\x1f".join([str(seed), *names]).encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
