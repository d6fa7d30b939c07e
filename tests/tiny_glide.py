"""Save a tiny, randomly initialised GLIDE in the official layout: state dicts, tokenizer, and a config that says how small it is.

Images are 16 px.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import pre_tokenizers

from pipeline.models.glide.shape import GlideShape
from pipeline.models.glide.unet import GlideUnet

SMALL, LARGE, NUM_TOKENS = 8, 16, 12
MERGES = (("h", "a"), ("m", "m"), ("ha", "mm"), ("e", "r"), ("hamm", "er"), ("Ġ", "hammer"))


def build_vocabulary() -> dict[str, int]:
    """One token per byte, one per merge, and the last for padding."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES), "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}


def build_shapes() -> dict[str, GlideShape]:
    common = {
        "channels": 32, "multipliers": (1, 2), "num_res_blocks": 1, "attention_sizes": (4, 8), "head_channels": 16,
        "text_tokens": NUM_TOKENS, "text_width": 24, "text_layers": 2, "text_heads": 3, "vocabulary": len(build_vocabulary()),
    }  # fmt: skip
    return {
        "base": GlideShape(image_size=SMALL, low_res_size=0, schedule="squaredcos_cap_v2", **common),
        "upsample": GlideShape(image_size=LARGE, low_res_size=SMALL, schedule="linear", **common),
    }


def build_tiny_unet(name: str, *, seed: int = 0) -> GlideUnet:
    """Build `base` or `upsample` with random weights everywhere, those that begin as zeros among them."""
    torch.manual_seed(seed)
    model = GlideUnet(build_shapes()[name])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 0.5)
    return model.eval()


def save_tiny_glide(folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("base", "upsample"):
        state = {key: value.to(dtype) for key, value in build_tiny_unet(name).state_dict().items()}
        torch.save(state, folder / f"{name}.pt")
    config = {name: asdict(shape) for name, shape in build_shapes().items()}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "encoder.json").write_text(json.dumps(build_vocabulary()))
    (folder / "vocab.bpe").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in MERGES), ""]))
    return folder
