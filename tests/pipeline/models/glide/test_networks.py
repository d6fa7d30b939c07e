"""GLIDE's layers against sums written out place by place. Run: python -m pytest tests/pipeline/models/glide/test_networks.py"""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.models.glide.text import TextAttention, TextStates
from pipeline.models.glide.unet import AttentionBlock, ResBlock, embed_timesteps
from tests.tiny_glide import LARGE, NUM_TOKENS, SMALL, build_shapes, build_tiny_unet

BASE = build_shapes()["base"]


def test_timesteps_are_told_by_cosines_then_sines() -> None:
    found = embed_timesteps(torch.tensor([0, 100]), 4)
    angles = (100.0, 1.0)  # frequencies 1 and 10,000^(-1/2)
    expected = [[1, 1, 0, 0], [*map(math.cos, angles), *map(math.sin, angles)]]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-5)


def weigh(scores: list[float]) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


@torch.no_grad()
def test_every_token_of_a_text_sees_all_others_head_by_head() -> None:
    torch.manual_seed(0)
    width, heads = 6, 2
    attention = TextAttention(width, heads).double()
    x_KW = torch.randn(4, width, dtype=torch.float64)
    expected = torch.zeros_like(x_KW)
    for token in range(4):
        for head in range(heads):
            start = head * 9  # queries, keys and values of three channels each, then the next head's
            q, k, v = ((attention.c_qkv(x_KW))[:, start + part : start + part + 3] for part in (0, 3, 6))
            weights = weigh([float(q[token] @ k[other]) / math.sqrt(3) for other in range(4)])
            expected[token, head * 3 : head * 3 + 3] = sum(weight * v[other] for other, weight in enumerate(weights))
    assert torch.allclose(attention(x_KW[None])[0], attention.c_proj(expected), rtol=1e-12)


@torch.no_grad()
def test_every_place_of_a_picture_sees_the_text_and_all_places_in_one_softmax() -> None:
    torch.manual_seed(0)
    block = AttentionBlock(32, BASE).double()
    torch.nn.init.normal_(block.proj_out.weight)
    x_Chw, states_KW = torch.randn(32, 2, 2, dtype=torch.float64), torch.randn(3, BASE.text_width, dtype=torch.float64)
    qkv_XT = block.qkv(block.norm(x_Chw[None]).flatten(2))[0]
    text_XK = block.encoder_kv(states_KW.T[None])[0]
    expected = torch.zeros(32, 4, dtype=torch.float64)
    for head in range(2):  # of 16 channels
        q, k, v = qkv_XT[48 * head : 48 * head + 48].split(16)
        text_k, text_v = text_XK[32 * head : 32 * head + 32].split(16)
        keys, values = torch.cat([text_k, k], dim=1), torch.cat([text_v, v], dim=1)
        for place in range(4):
            weights = weigh([float(q[:, place] @ keys[:, other]) / 4 for other in range(7)])
            expected[16 * head : 16 * head + 16, place] = sum(weight * values[:, other] for other, weight in enumerate(weights))
    expected = x_Chw + block.proj_out(expected[None])[0].view(32, 2, 2)
    assert torch.allclose(block(x_Chw[None], states_KW[None])[0], expected, rtol=1e-10)


def test_the_timestep_scales_and_shifts_between_the_two_convolutions() -> None:
    """With a first convolution and embedding weights of 0, only biases are left, and the normalised picture of them is 0."""
    block = ResBlock(32, 32, BASE).eval()
    for part in (block.in_layers[2].weight, block.emb_layers[1].weight):
        torch.nn.init.zeros_(part)
    block.emb_layers[1].bias.data = torch.cat([torch.full((32,), 5.0), torch.full((32,), 2.0)])  # scale, then shift
    torch.nn.init.dirac_(block.out_layers[3].weight)
    block.in_layers[2].bias.data.fill_(0.7)
    x = torch.randn(1, 32, 4, 4)
    silu_of_2 = 2 / (1 + math.exp(-2))
    assert torch.allclose(block(x, torch.randn(1, 128)) - x, torch.full_like(x, silu_of_2), atol=1e-6)
    block.out_layers[0].bias.data.fill_(0.5)  # what the norm gives: 0.5 (1 + 5) + 2 = 5
    assert torch.allclose(block(x, torch.randn(1, 128)) - x, torch.full_like(x, 5 / (1 + math.exp(-5))), atol=1e-5)


@pytest.mark.parametrize(
    ("resampling", "expected"), [("up", [[1.0, 1, 2, 2]] * 2 + [[3.0, 3, 4, 4]] * 2), ("down", [[2.5]]), ("none", [[1.0, 2], [3, 4]])]
)
def test_an_untrained_block_hands_on_the_picture_in_its_new_size(resampling: str, expected: list[list[float]]) -> None:
    block = ResBlock(32, 32, BASE, resampling=resampling).eval()
    pictures = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(2, 32, 2, 2)
    assert torch.equal(block(pictures, torch.zeros(2, 128))[0, 0], torch.tensor(expected))


def test_what_stands_at_padding_is_replaced_and_the_last_place_is_the_texts_one_vector() -> None:
    model = build_tiny_unet("base")
    ids = torch.arange(NUM_TOKENS)[None].repeat(2, 1)
    ids[1, 5:] += 40  # behind the text: must not matter
    is_text = (torch.arange(NUM_TOKENS) < 5)[None].repeat(2, 1)
    with torch.no_grad():
        pooled, states = model.read_text(ids, is_text)
        whole, _ = model.read_text(ids, torch.ones_like(is_text))
        assert torch.equal(states[0], states[1])
        assert torch.allclose(pooled, model.transformer_proj(states[:, -1]))
        assert not torch.allclose(whole[0], whole[1], atol=1e-3)  # as text the same ids do


def test_the_upsampler_sees_the_small_picture_enlarged_between_pixels() -> None:
    model = build_tiny_unet("upsample")
    seen = []
    model.input_blocks[0].register_forward_hook(lambda module, given, result: seen.append(given[0]))
    text = TextStates(torch.zeros(1, 128), torch.zeros(1, NUM_TOKENS, 24))
    ramp = torch.arange(SMALL, dtype=torch.float32).expand(1, 3, SMALL, SMALL)
    with torch.no_grad():
        model(torch.zeros(1, 3, LARGE, LARGE), torch.tensor([3]), text, ramp)
    assert seen[0].shape == (1, 6, LARGE, LARGE)
    assert seen[0][0, 3, 0, :5].tolist() == [0, 0.25, 0.75, 1.25, 1.75]  # centres, not corners, stand over each other
    assert torch.equal(seen[0][0, :3], torch.zeros(3, LARGE, LARGE))
