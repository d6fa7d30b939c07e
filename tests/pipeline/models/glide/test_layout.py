"""Names and shapes of the official weights, on the meta device. Run: python -m pytest tests/pipeline/models/glide/test_layout.py"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from pipeline.models.glide.shape import OFFICIAL, OFFICIAL_BASE, read_shapes
from pipeline.models.glide.unet import GlideUnet

Shapes = Iterator[tuple[str, tuple[int, ...]]]
TIME, TEXT = 768, 512
# (channels in, channels out) of the residual blocks of every stage, and the stages with attention; written out from the models' description
BASE_DOWN = [
    *[(192, 192)] * 3, (192, 192), (192, 384), (384, 384), (384, 384), (384, 384),
    (384, 576), (576, 576), (576, 576), (576, 576), (576, 768), (768, 768), (768, 768),
]  # fmt: skip
BASE_UP = [
    (1536, 768), (1536, 768), (1536, 768), (1344, 768), (1344, 576), (1152, 576), (1152, 576), (960, 576),
    (960, 384), (768, 384), (768, 384), (576, 384), (576, 192), (384, 192), (384, 192), (384, 192),
]  # fmt: skip
UP_DOWN = [
    (192, 192), (192, 192), (192, 192), (192, 192), (192, 192), (192, 192), (192, 384), (384, 384), (384, 384),
    (384, 384), (384, 384), (384, 384), (384, 768), (768, 768), (768, 768), (768, 768), (768, 768),
]  # fmt: skip
UP_UP = [
    (1536, 768), (1536, 768), (1536, 768), (1536, 768), (1536, 768), (1152, 768), (1152, 384), (768, 384), (768, 384),
    (768, 384), (768, 384), (576, 384), (576, 192), (384, 192), (384, 192), (384, 192), (384, 192), (384, 192),
]  # fmt: skip
MODELS = {
    "base": (BASE_DOWN, {5, 6, 7, 9, 10, 11, 13, 14, 15}, BASE_UP, set(range(12)), {3, 7, 11}, 3),
    "upsample": (UP_DOWN, {10, 11, 13, 14, 16, 17}, UP_UP, set(range(9)), {2, 5, 8, 11, 14}, 6),
}
PARAMETERS = {"base": 385_030_726, "upsample": 398_361_286}
TENSORS = {"base": 783, "upsample": 797}
# sha256 of the sorted lines "name shape" of the official repository's own models (commit 69b5307)
FINGERPRINTS = {
    "base": "5831aceada817bc8bc6963329b6a5bed3c1fb96502f28f6d1c8b041e7138e2f8",
    "upsample": "6508b479e01fb27169ea55f11f4ab504af0b1be353e78fca252d012f36a53516",
}


def layer(name: str, *shape: int) -> Shapes:
    """A layer's weight, and its bias, which is as long as the weight is wide."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def res_block(name: str, before: int, after: int) -> Shapes:
    yield from layer(f"{name}.in_layers.0", before)
    yield from layer(f"{name}.in_layers.2", after, before, 3, 3)
    yield from layer(f"{name}.emb_layers.1", 2 * after, TIME)
    yield from layer(f"{name}.out_layers.0", after)
    yield from layer(f"{name}.out_layers.3", after, after, 3, 3)
    if before != after:
        yield from layer(f"{name}.skip_connection", after, before, 1, 1)


def attention(name: str, channels: int) -> Shapes:
    yield from layer(f"{name}.norm", channels)
    yield from layer(f"{name}.qkv", 3 * channels, channels, 1)
    yield from layer(f"{name}.encoder_kv", 2 * channels, TEXT, 1)
    yield from layer(f"{name}.proj_out", channels, channels, 1)


def text() -> Shapes:
    yield "token_embedding.weight", (50257, TEXT)
    yield "positional_embedding", (128, TEXT)
    yield "padding_embedding", (128, TEXT)
    for number in range(16):
        name = f"transformer.resblocks.{number}"
        yield from layer(f"{name}.attn.c_qkv", 1536, TEXT)
        yield from layer(f"{name}.attn.c_proj", TEXT, TEXT)
        yield from layer(f"{name}.ln_1", TEXT)
        yield from layer(f"{name}.mlp.c_fc", 2048, TEXT)
        yield from layer(f"{name}.mlp.c_proj", TEXT, 2048)
        yield from layer(f"{name}.ln_2", TEXT)
    yield from layer("final_ln", TEXT)
    yield from layer("transformer_proj", TIME, TEXT)


def list_official(name: str) -> Shapes:
    down, sees_down, up, sees_up, grows, in_channels = MODELS[name]
    yield from text()
    yield from layer("time_embed.0", TIME, 192)
    yield from layer("time_embed.2", TIME, TIME)
    yield from layer("input_blocks.0.0", 192, in_channels, 3, 3)
    for number, (before, after) in enumerate(down, 1):
        yield from res_block(f"input_blocks.{number}.0", before, after)
        if number in sees_down:
            yield from attention(f"input_blocks.{number}.1", after)
    yield from res_block("middle_block.0", 768, 768)
    yield from attention("middle_block.1", 768)
    yield from res_block("middle_block.2", 768, 768)
    for number, (before, after) in enumerate(up):
        yield from res_block(f"output_blocks.{number}.0", before, after)
        if number in sees_up:
            yield from attention(f"output_blocks.{number}.1", after)
        if number in grows:
            yield from res_block(f"output_blocks.{number}.{1 + (number in sees_up)}", after, after)
    yield from layer("out.0", 192)
    yield from layer("out.2", 6, 192, 3, 3)


@pytest.mark.parametrize("name", ["base", "upsample"])
def test_the_full_size_models_have_the_official_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        model = GlideUnet(getattr(OFFICIAL, name))
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes == dict(list_official(name))
    assert len(shapes) == TENSORS[name]
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    lines = "\n".join(sorted(f"{key} {shape}" for key, shape in shapes.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == FINGERPRINTS[name]


def test_a_folder_without_a_config_has_the_official_sizes(tmp_path: Path) -> None:
    assert read_shapes(tmp_path) is OFFICIAL
    small = {"base": replace(OFFICIAL_BASE, image_size=16), "upsample": replace(OFFICIAL_BASE, image_size=64, low_res_size=16)}
    (tmp_path / "config.json").write_text(json.dumps({name: asdict(shape) for name, shape in small.items()}))
    shapes = read_shapes(tmp_path)
    assert (shapes.base, shapes.upsample) == (small["base"], small["upsample"])
    assert (shapes.base.in_channels, shapes.upsample.in_channels) == (3, 6)


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("base", {"channels": 48}, r"config.json: base\.channels is 48, but it must be .*32"),
        ("base", {"multipliers": []}, r"base\.multipliers is \[\], but it must be a list of 1 or more"),
        ("base", {"image_size": 62}, r"image_size is 62, but it must be a multiple of 8, as 4 multipliers ask"),
        ("base", {"head_channels": 50}, r"head_channels is 50, but the channels of every size must be multiples of it"),
        ("base", {"text_heads": 7}, r"text_heads is 7, but text_width, 512, must be a multiple of it"),
        ("base", {"schedule": "cosine"}, r"base\.schedule is 'cosine', but it must be 'squaredcos_cap_v2' or 'linear'"),
        ("base", {"colour": 1}, r"unknown key `colour`; allowed are: attention_sizes, channels"),
        ("upsample", {"low_res_size": 32}, r"low_res_size must be 0 in `base` and base's image_size, 64, in `upsample`"),
    ],
)
def test_sizes_that_cannot_be_are_one_sentence(tmp_path: Path, name: str, changed: dict[str, object], says: str) -> None:
    document = asdict(OFFICIAL)
    document[name] |= changed
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=says):
        read_shapes(tmp_path)
