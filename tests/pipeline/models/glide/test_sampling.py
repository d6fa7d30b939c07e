"""GLIDE's schedules and sampler steps by worked values. Run: python -m pytest tests/pipeline/models/glide/test_sampling.py"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.models.glide.sampling import (
    build_ancestral,
    build_ddim,
    choose_steps,
    choose_upsample_steps,
    compute_alphas,
    guide,
    round_to_8_bits,
)


def test_the_base_models_schedule_is_a_squared_cosine() -> None:
    alphas = compute_alphas("squaredcos_cap_v2")

    def signal(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    assert len(alphas) == 1000
    for step in (0, 1, 499, 900, 998):  # the products of 1 - beta telescope
        assert alphas[step] == pytest.approx(signal((step + 1) / 1000) / signal(0), rel=1e-9)
    assert alphas[999] / alphas[998] == pytest.approx(0.001, rel=1e-9)  # the last beta is cut to 0.999


def test_the_upsamplers_schedule_is_linear() -> None:
    alphas = compute_alphas("linear")
    assert alphas[0] == pytest.approx(1 - 1e-4)
    assert alphas[1] == pytest.approx((1 - 1e-4) * (1 - 1e-4 - 0.0199 / 999))
    assert math.log(alphas[999]) == pytest.approx(sum(math.log(1 - (1e-4 + 0.0199 * step / 999)) for step in range(1000)))
    with pytest.raises(ValueError, match="schedule is 'cosine', but it must be one of: linear, squaredcos_cap_v2"):
        compute_alphas("cosine")


def test_steps_are_chosen_evenly_with_both_ends() -> None:
    assert choose_steps([4]) == [0, 333, 666, 999]
    assert choose_steps([1]) == [0]
    hundred = choose_steps([100])
    assert hundred[:4] == [0, 10, 20, 30]
    assert hundred[5:8] == [50, 61, 71]
    assert (len(hundred), hundred[-1]) == (100, 999)
    with pytest.raises(ValueError, match="1001 steps are asked for, but the training has 1000"):
        choose_steps([1001])


def test_the_upsamplers_official_steps() -> None:
    assert choose_upsample_steps("fast27") == [
        0, 22, 44, 66, 88, 111, 133, 155, 177, 199, 200, 222, 244, 266, 288, 311, 333, 355, 377, 399, 400, 500, 599, 600, 799, 800, 997,
    ]  # fmt: skip
    assert choose_upsample_steps(3) == [0, 500, 999]


ALPHAS = np.array([0.9, 0.6, 0.2])  # of three steps, of which the last two are taken
X, NOISE, PLACE = 0.3, -0.5, 0.2  # a pixel, the noise seen in it, where the variance lies


def single(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def test_an_ancestral_step_by_hand() -> None:
    sampler = build_ancestral(ALPHAS, [1, 2])
    assert sampler.timesteps.tolist() == [1, 0]
    now, before = 0.2, 0.6
    beta = 1 - now / before
    clean = (X - math.sqrt(1 - now) * NOISE) / math.sqrt(now)  # 1.67, cut to 1
    assert clean > 1
    mean = math.sqrt(before) * beta / (1 - now) * 1 + math.sqrt(1 - beta) * (1 - before) / (1 - now) * X
    share = (PLACE + 1) / 2
    log_variance = share * math.log(beta) + (1 - share) * math.log(beta * (1 - before) / (1 - now))
    drawn = torch.randn(1, 1, 1, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64).item()
    found = sampler.step(single(NOISE, PLACE), 1, single(X), generator=[torch.Generator().manual_seed(5)], return_dict=False)[0]
    assert found.item() == pytest.approx(mean + math.exp(log_variance / 2) * drawn, rel=1e-12)


def test_the_last_ancestral_step_is_the_clean_picture_without_new_noise() -> None:
    sampler = build_ancestral(ALPHAS, [1, 2])
    clean = (X - math.sqrt(0.4) * 0.1) / math.sqrt(0.6)
    assert abs(clean) < 1
    assert sampler.step(single(0.1, PLACE), 0, single(X), return_dict=False)[0].item() == pytest.approx(clean, rel=1e-12)


def test_a_ddim_step_by_hand_takes_the_noise_anew_from_the_cut_picture() -> None:
    sampler = build_ddim(ALPHAS, [1, 2])
    noise = (X - math.sqrt(0.2) * 1) / math.sqrt(0.8)  # that of a clean pixel of 1
    expected = math.sqrt(0.6) * 1 + math.sqrt(0.4) * noise
    found = sampler.step(single(NOISE), 1, single(X), use_clipped_model_output=True, return_dict=False)[0]
    assert found.item() == pytest.approx(expected, rel=1e-12)
    last = sampler.step(single(0.1), 0, single(X), use_clipped_model_output=True, return_dict=False)[0]
    assert last.item() == pytest.approx((X - math.sqrt(0.4) * 0.1) / math.sqrt(0.6), rel=1e-12)


def test_guidance_moves_the_noise_and_leaves_the_variance() -> None:
    with_text, without = torch.tensor([1.0, 2, 3, 4, 5, 6]), torch.tensor([0.0, 4, 3, 9, 9, 9])
    both = torch.stack([with_text, without]).view(2, 6, 1, 1)
    assert guide(both, 3.0).flatten().tolist() == [3, -2, 3, 4, 5, 6]
    assert guide(both, 1.0).flatten().tolist() == with_text.tolist()


def test_the_upsampler_is_shown_levels_of_a_file() -> None:
    assert round_to_8_bits(torch.tensor([-1.0, 1.0, 0.0, 0.004])).tolist() == pytest.approx([-1, 1, 0.5 / 127.5, 0.5 / 127.5], abs=1e-6)
