"""LaVIT's own networks: worked values and what must hold. Run: python -m pytest tests/pipeline/models/lavit/test_networks.py"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.models.lavit.decoder import HighresDecoder, LowresDecoder
from pipeline.models.lavit.layers import attend_among
from pipeline.models.lavit.tokenizer import Quantiser, TokenMerger, TokenPredictor, VisualTokenizer, draw_noise
from pipeline.models.lavit.vision import build_vision, prepare_images, see
from tests.tiny_lavit import NUM_PATCHES, SHAPE, randomise

NOTHING = torch.zeros(1, 1, 2, 4)  # queries of two places: every place weighs the same


def random_patches(size: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(size, NUM_PATCHES, SHAPE.width, generator=torch.Generator().manual_seed(seed))


def test_attention_goes_to_the_allowed_places_and_to_all_where_none_is() -> None:
    key, value = torch.zeros(1, 1, 2, 4), torch.tensor([[1.0], [3.0]]).view(1, 1, 2, 1)
    allowed = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    assert attend_among(NOTHING, key, value, allowed).flatten().tolist() == pytest.approx([2.0, 3.0], abs=3e-6)  # epsilon is 1e-6
    assert attend_among(NOTHING, key, value, torch.zeros(1, 2, 2)).flatten().tolist() == pytest.approx([2.0, 2.0])


def test_attention_weighs_by_the_scaled_product() -> None:
    """Logits 0 and 2 ln 3 / sqrt(4) = ln 3: weights 1/4 and 3/4."""
    query = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 1, 4)
    key = torch.tensor([[0.0, 0, 0, 0], [2 * math.log(3), 0, 0, 0]]).view(1, 1, 2, 4)
    value = torch.tensor([[0.0], [4.0]]).view(1, 1, 2, 1)
    assert attend_among(query, key, value, torch.ones(1, 1, 2)).item() == pytest.approx(3.0, abs=1e-5)


def test_a_dropped_patch_is_seen_by_itself_alone_and_nobody_looks_ahead() -> None:
    """Change one patch: with what is dropped looked at by all, only the first attention of one block can be told apart."""
    merger = randomise(TokenMerger(SHAPE))
    attention = merger.blocks[0].token_causal_attn
    keep = torch.ones(1, NUM_PATCHES)
    keep[0, 5] = 0
    kept = (keep[:, None] + (1 - keep[:, None]) * torch.eye(NUM_PATCHES)).tril()
    before = random_patches(1)
    for changed, affected in ((5, {5}), (9, set(range(9, NUM_PATCHES)) - {5})):
        after = before.clone()
        after[0, changed] *= -1
        difference = (attention(after, kept) - attention(before, kept)).abs().amax(dim=-1)[0]
        assert {place for place in range(NUM_PATCHES) if difference[place] > 1e-3} == affected  # epsilon gives the others a millionth


def test_what_is_dropped_reaches_what_is_kept() -> None:
    merger = randomise(TokenMerger(SHAPE))
    keep = torch.ones(1, NUM_PATCHES)
    keep[0, 12] = 0
    before = random_patches(1)
    after = before.clone()
    after[0, 12] *= -1
    difference = (merger(after, keep) - merger(before, keep)).abs().amax(dim=-1)[0]
    assert difference[0] > 0.01  # which stands before it
    keep[0, 12] = 1  # kept: the first patch neither looks ahead nor across
    keep[0, 3] = 0
    assert (merger(after, keep) - merger(before, keep)).abs().amax(dim=-1)[0, 0] < 1e-4


def test_the_predictor_reads_a_patch_and_the_mean_of_all() -> None:
    predictor = randomise(TokenPredictor(SHAPE.width))
    patches = random_patches(1)
    score = predictor(patches)
    assert score.shape == (1, NUM_PATCHES, 2)
    assert score.exp().sum(dim=-1).flatten().tolist() == pytest.approx([1.0] * NUM_PATCHES)
    order = torch.randperm(NUM_PATCHES, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(predictor(patches[:, order]), score[:, order], atol=1e-5)
    other = patches.clone()
    other[0, 1] *= -1  # a constant would be lost in the norm
    assert (predictor(other)[0, 0] - score[0, 0]).abs().max() > 1e-4  # through the mean


def test_patches_are_kept_as_often_as_the_predictor_says() -> None:
    tokenizer = VisualTokenizer(SHAPE)
    torch.nn.init.zeros_(tokenizer.token_predictor.out_conv[4].weight)
    tokenizer.token_predictor.out_conv[4].bias.data = torch.tensor([math.log(0.25), math.log(0.75)])
    noise = draw_noise([torch.Generator().manual_seed(seed) for seed in range(200)], NUM_PATCHES)
    kept = tokenizer.choose_patches(torch.zeros(200, NUM_PATCHES, SHAPE.width), noise)
    assert kept.float().mean().item() == pytest.approx(0.25, abs=0.03)  # 3200 draws: 0.0077 standard error


def test_the_nearest_direction_is_the_code() -> None:
    quantiser = Quantiser(SHAPE)
    quantiser.embedding.weight.data = torch.eye(SHAPE.num_codes, SHAPE.code_width)
    vectors = torch.tensor([[0, 0, 9.0, 1, 0, 0], [0.3, 0.2, 0, 0, 0, 0]])
    assert quantiser.find_codes(vectors).tolist() == [2, 0]
    assert quantiser.read_codes(torch.tensor([2, 0]))[0].tolist() == [0, 0, 1, 0, 0, 0]


def test_a_pictures_codes_follow_from_its_own_generator_alone() -> None:
    vision, tokenizer = randomise(build_vision(SHAPE)), randomise(VisualTokenizer(SHAPE))
    pixels = torch.randn(3, 3, SHAPE.image_size, SHAPE.image_size, generator=torch.Generator().manual_seed(2))

    def tokenize(rows: list[int], seeds: list[int]) -> list[list[int]]:
        with torch.no_grad():
            noise = draw_noise([torch.Generator().manual_seed(seed) for seed in seeds], NUM_PATCHES)
            return [codes.tolist() for codes in tokenizer.tokenize(see(vision, pixels[rows]), noise)]

    together = tokenize([0, 1, 2], [4, 5, 6])
    assert together == [tokenize([row], [seed])[0] for row, seed in ((0, 4), (1, 5), (2, 6))]
    assert tokenize([0], [7]) != together[:1]
    assert all(0 <= code < SHAPE.num_codes for codes in together for code in codes)
    assert all(len(codes) <= NUM_PATCHES for codes in together)


def test_what_is_seen_is_the_last_block_before_the_norm_and_no_class_token() -> None:
    vision = randomise(build_vision(SHAPE))
    pixels = torch.randn(1, 3, SHAPE.image_size, SHAPE.image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        patches = see(vision, pixels)
        assert patches.shape == (1, NUM_PATCHES, SHAPE.width)
        assert torch.allclose(vision.norm(patches), vision.forward_features(pixels)[:, 1:], atol=1e-4)  # float32 of large numbers


def test_pictures_are_squeezed_into_a_square_and_scaled_as_clip_does() -> None:
    wide = Image.fromarray(np.concatenate([np.zeros((8, 32, 3), np.uint8), np.full((8, 32, 3), 255, np.uint8)], axis=1))
    pixels = prepare_images([wide], 4)
    assert pixels.shape == (1, 3, 4, 4)
    assert pixels[0, 0, 0, 0].item() == pytest.approx((0 - 0.48145466) / 0.26862954, abs=1e-5)
    assert pixels[0, 2, 3, 3].item() == pytest.approx((1 - 0.40821073) / 0.27577711, abs=1e-5)


@pytest.mark.parametrize("build", [LowresDecoder, HighresDecoder])
def test_a_condition_depends_on_its_own_codes_and_their_order(build: type) -> None:
    decoder = randomise(build(SHAPE))
    codes = [torch.randn(count, SHAPE.code_width, generator=torch.Generator().manual_seed(count)) for count in (3, 9)]
    with torch.no_grad():
        together = decoder(codes)
        alone = [decoder([code]) for code in codes]
        turned = decoder([codes[0].flip(0)])
    width = SHAPE.lowres_width if build is LowresDecoder else sum(SHAPE.highres_widths)
    assert together.states_BND.shape == (2, NUM_PATCHES, width)
    for row in range(2):
        assert torch.allclose(together.states_BND[row], alone[row].states_BND[0], atol=1e-5)
    assert not torch.allclose(turned.states_BND, alone[0].states_BND, atol=1e-3)
    if build is HighresDecoder:
        assert together.pooled_BP.shape == (2, SHAPE.pooled_width)
        assert torch.allclose(together.pooled_BP[1], alone[1].pooled_BP[0], atol=1e-5)


def test_the_pool_is_torchs_attention_asked_by_the_mean() -> None:
    pool = randomise(HighresDecoder(SHAPE)).unet_attnpool
    x = random_patches()
    with torch.no_grad():
        places = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + pool.positional_embedding
        expected, _ = torch.nn.functional.multi_head_attention_forward(
            *[places.transpose(0, 1)] * 3, SHAPE.width, SHAPE.heads, None,
            torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
            pool.c_proj.weight, pool.c_proj.bias, use_separate_proj_weight=True, training=False, need_weights=False,
            q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
        )  # fmt: skip
        assert torch.allclose(pool(x), expected[0], atol=1e-5)
