"""Names and shapes of the official weights, on the meta device. Run: python -m pytest tests/pipeline/models/lavit/test_layout.py"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from pipeline.models.lavit.decoder import HighresDecoder, LowresDecoder
from pipeline.models.lavit.shape import OFFICIAL
from pipeline.models.lavit.tokenizer import VisualTokenizer
from pipeline.models.lavit.vision import build_vision

Shapes = Iterator[tuple[str, tuple[int, ...]]]
MODELS = {"vision": build_vision, "tokenizer": VisualTokenizer, "lowres": LowresDecoder, "highres": HighresDecoder}
PARAMETERS = {"vision": 1_012_588_928, "tokenizer": 404_048_130, "lowres": 404_081_792, "highres": 414_002_304}
# sha256 of the sorted lines "name shape" of the official repository's own models (commit 8cde9b4)
FINGERPRINTS = {
    "vision": "71cd65f21474f224d17f05ce6d2ed94f9b32b7dfdc0fde434220984af32ddd36",
    "tokenizer": "8d12e2460075765a7cdc25c4108fd847bf55ef178a6afdb14fff9d34b9b395f6",
    "lowres": "b59c2a746e17a56a124cc5e10af09bfe768030189588ddf4e80d6515aabce168",
    "highres": "385ed1e489c5142e1806a095b8d7e5de560968a5c31cc18ef62e584bcb9ff763",
}


def layer(name: str, *shape: int) -> Shapes:
    """A layer's weight, and its bias, which is as long as the weight is wide."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def mlp(name: str) -> Shapes:
    yield from layer(f"{name}.fc1", 6144, 1408)
    yield from layer(f"{name}.fc2", 1408, 6144)


def square(name: str, *layers: str) -> Shapes:
    for part in layers:
        yield from layer(f"{name}.{part}", 1408, 1408)


def vision() -> Shapes:
    yield "cls_token", (1, 1, 1408)
    yield "pos_embed", (1, 257, 1408)
    yield from layer("patch_embed.proj", 1408, 3, 14, 14)
    for number in range(40):
        name = f"blocks.{number}"
        yield from layer(f"{name}.norm1", 1408)
        yield f"{name}.attn.q_bias", (1408,)
        yield f"{name}.attn.v_bias", (1408,)
        yield f"{name}.attn.qkv.weight", (3 * 1408, 1408)
        yield from square(f"{name}.attn", "proj")
        yield from layer(f"{name}.norm2", 1408)
        yield from mlp(f"{name}.mlp")
    yield from layer("norm", 1408)
    yield from layer("head", 1024, 1408)


def tokenizer() -> Shapes:
    yield from layer("token_predictor.in_conv.0", 1408)
    yield from layer("token_predictor.in_conv.1", 1408, 1408)
    for number, (after, before) in {0: (704, 1408), 2: (352, 704), 4: (2, 352)}.items():
        yield from layer(f"token_predictor.out_conv.{number}", after, before)
    for number in range(12):
        name = f"causal_encoder.blocks.{number}"
        for norm in ("norm0", "norm1", "norm2"):
            yield from layer(f"{name}.{norm}", 1408)
        yield from layer(f"{name}.token_causal_attn.qkv", 3 * 1408, 1408)
        yield from square(f"{name}.token_causal_attn", "proj")
        yield from square(f"{name}.token_cross_attn", "query", "key", "value", "proj")
        yield from mlp(f"{name}.mlp")
    yield from layer("causal_encoder.ln_vision", 1408)
    yield from layer("causal_encoder.norm", 1408)
    yield "quantize.embedding.weight", (16384, 32)
    yield from layer("encode_task_layer.0", 1408, 1408)
    yield from layer("encode_task_layer.2", 32, 1408)


def decoder() -> Shapes:
    yield from layer("in_proj", 1408, 32)
    yield "pos_embed", (1, 256, 1408)
    yield "query_embed", (1, 256, 1408)
    for number in range(12):
        name = f"blocks.{number}"
        for norm in ("norm0", "norm1", "norm2"):
            yield from layer(f"{name}.{norm}", 1408)
        yield from layer(f"{name}.self_attn.qkv", 3 * 1408, 1408)
        yield from square(f"{name}.self_attn", "proj")
        yield from square(f"{name}.cross_attn", "query", "key", "value", "proj")
        yield from mlp(f"{name}.mlp")
    yield from layer("norm", 1408)
    yield from layer("decode_task_layer.0", 1408, 1408)
    yield from layer("decode_task_layer.2", 1408, 1408)


def lowres() -> Shapes:
    yield from decoder()
    yield from layer("unet_proj", 768, 1408)


def highres() -> Shapes:
    yield from decoder()
    yield from layer("unet_proj_1", 768, 1408)
    yield from layer("unet_proj_2", 1280, 1408)
    yield "unet_attnpool.positional_embedding", (257, 1408)
    yield from square("unet_attnpool", "k_proj", "q_proj", "v_proj")
    yield from layer("unet_attnpool.c_proj", 1280, 1408)


WRITTEN_OUT = {"vision": vision, "tokenizer": tokenizer, "lowres": lowres, "highres": highres}


@pytest.mark.parametrize("name", MODELS)
def test_names_shapes_and_parameters_are_those_of_the_official_weights(name: str) -> None:
    with torch.device("meta"):
        model: nn.Module = MODELS[name](OFFICIAL)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes == dict(WRITTEN_OUT[name]())
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    lines = "\n".join(sorted(f"{key} {shape}" for key, shape in shapes.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == FINGERPRINTS[name]


def test_the_vocabulary_is_words_two_marks_and_codes() -> None:
    assert (OFFICIAL.image_start, OFFICIAL.image_end, OFFICIAL.first_code) == (32000, 32001, 32002)
    assert OFFICIAL.vocabulary == 48386
    assert OFFICIAL.num_patches == 256
