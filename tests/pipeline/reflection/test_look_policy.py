"""Where look tokens stand beside P^gen: what the policy explores, and how near its estimate comes to the gradient.

Run: `python -m pytest tests/pipeline/reflection/test_look_policy.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from pipeline.conditioning.look_balance import LookBalance, find_directions
from pipeline.reflection.fit import ReflectionTraining, list_trainable
from pipeline.reflection.inputs import build_batch
from pipeline.reflection.look_policy import build_look_actions, compute_look_rank_loss, draw_pairs, set_looks
from pipeline.reflection.look_step import observe_look_step, validate_look
from pipeline.reflection.policy import draw_noise
from pipeline.reflection.reward import compute_advantages

NUM_TOKENS, SIGMA = 4, 0.3


def test_perturbations_come_in_antithetic_pairs_and_depend_on_seed_step_and_case_alone() -> None:
    noise = draw_pairs(5, ["a", "b"], num_noises=4, sigma=SIGMA, seed=1, step=2)
    assert noise.shape == (2, 4, 5)
    assert torch.equal(noise[:, 0::2], -noise[:, 1::2])
    assert torch.equal(draw_pairs(5, ["b"], num_noises=4, sigma=SIGMA, seed=1, step=2)[0], noise[1])
    assert not torch.equal(draw_pairs(5, ["b"], num_noises=4, sigma=SIGMA, seed=1, step=3)[0], noise[1])
    assert draw_pairs(5, ["a"], num_noises=3, sigma=SIGMA, seed=1, step=2).shape == (1, 3, 5)  # the odd one has no partner
    many = draw_pairs(50, ["a"], num_noises=400, sigma=SIGMA, seed=0, step=0)
    assert many.std().item() == pytest.approx(SIGMA, rel=0.03)


def test_the_unperturbed_action_comes_first() -> None:
    action, noise = torch.ones(1, 3), draw_pairs(3, ["a"], num_noises=2, sigma=SIGMA, seed=1, step=0)
    assert torch.equal(build_look_actions(action, noise)[0], torch.stack([action[0], action[0] + noise[0, 0], action[0] - noise[0, 0]]))


def measure_cosine(width: int, num_noises: int, *, antithetic: bool) -> float:
    """Return the mean cosine, over 50 steps, of eq. 12's gradient in the balance's own weights to that of a reward that is linear in the action."""
    generator = torch.Generator().manual_seed(0)
    slope_A, case_ids = torch.randn(width, generator=generator), [f"case{index}" for index in range(4)]
    seen_BX = torch.randn(4, 20, generator=generator)
    weight_XA = torch.zeros(20, width, requires_grad=True)
    cosines = []
    for step in range(50):
        action_BA = seen_BX @ weight_XA
        if antithetic:
            noise_BRA = draw_pairs(width, case_ids, num_noises=num_noises, sigma=SIGMA, seed=0, step=step)
        else:
            noise_BRA = draw_noise(torch.ones(4, 1).bool(), width, case_ids, num_noises=num_noises, sigma=SIGMA, seed=0, step=step)[:, :, 0]
        reward_BK = build_look_actions(action_BA, noise_BRA) @ slope_A
        advantage_BR = compute_advantages(reward_BK[:, 1:], reward_BK[:, 0], baseline="mean")
        loss = compute_look_rank_loss(action_BA, noise_BRA, advantage_BR, sigma=SIGMA, reading="score_function")
        (estimate,) = torch.autograd.grad(loss, [weight_XA])
        (truth,) = torch.autograd.grad(-(seen_BX @ weight_XA @ slope_A).mean(), [weight_XA])
        cosines.append(functional.cosine_similarity(estimate.flatten(), truth.flatten(), dim=0).item())
    return sum(cosines) / len(cosines)


@pytest.mark.parametrize("num_noises", [4, 8])
def test_the_estimate_points_along_the_gradient_of_a_linear_reward(num_noises: int) -> None:
    assert measure_cosine(16 + 2, num_noises, antithetic=True) >= 0.3


def test_noise_on_all_of_a_prompt_hardly_points_anywhere() -> None:
    assert measure_cosine(64 * 384, 4, antithetic=False) < 0.05


@torch.no_grad()
def test_a_factor_on_the_look_scales_it_alone() -> None:
    balance = LookBalance(torch.zeros(1, NUM_TOKENS, 8), torch.zeros(NUM_TOKENS, 8))
    setting = set_looks(balance, torch.ones(2, NUM_TOKENS, 8), torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]] * 2))
    assert setting.tokens.shape == (2, 2, NUM_TOKENS, 8)
    assert torch.equal(setting.words, torch.ones(2, 2))
    assert (setting.look[:, 1] > setting.look[:, 0]).all()


@pytest.fixture
def seen_world(make_world):
    """A world whose cases have look tokens."""
    world = make_world({"num_perturbations": 4})
    tokens_NMD = torch.randn(len(world.cases), NUM_TOKENS, world.tools.diffusion.token_dim, generator=torch.Generator().manual_seed(7))
    world.conditioner.look = LookBalance(find_directions(tokens_NMD, count=3), torch.zeros(tokens_NMD.shape[1:]))
    world.tools = replace(world.tools, see=world.tools.encoder.see_pixels)
    for name, rows in (("train", slice(0, 8)), ("validation", slice(8, 12))):
        batch = getattr(world, name)
        setattr(world, name, replace(batch, inputs=replace(batch.inputs, look_BMD=tokens_NMD[rows])))
    return world


def list_reached(conditioner, loss: torch.Tensor) -> set[str]:
    names, parameters = zip(*conditioner.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {name.split(".")[0] for name, gradient in zip(names, gradients, strict=True) if gradient is not None and gradient.abs().max() > 0}


def test_the_rank_loss_reaches_the_look_alone_and_eq_13_all_that_is_drawn(seen_world) -> None:
    world = seen_world
    losses, row = observe_look_step(world.conditioner, world.train.select([0, 1]), world.tools, world.config, seed=1, step=0)
    assert {name: list_reached(world.conditioner, loss) for name, loss in losses.items()} == {
        "rank": {"look"},
        "calibration": {"look", "mapper", "calibrator"},
        "semantic": {"mapper"},
    }
    assert set(row) == {"reward", "score", "score_reference", "score_global", "mean_rank"}


def test_eq_13_compares_what_is_seen_in_the_estimate_with_p_ret(seen_world) -> None:
    world = seen_world
    batch = world.train.select([0, 1])
    losses, _ = observe_look_step(world.conditioner, batch, world.tools, replace(world.config, num_perturbations=0), seed=1, step=0)
    assert set(losses) == {"calibration", "semantic"}
    drawn = world.tools.diffusion.choose_colours(
        world.conditioner(batch.inputs).prompt_BTD,
        world.config.reward_guidance,
        "",
        type("Look", (), {"words": None, "scale": world.config.reward_look, "tokens_BMD": batch.inputs.look_BMD, "no_look_MD": 0})(),
    )
    feature = functional.normalize((drawn - 0.5) @ world.tools.encoder.image_3V, dim=1)
    cosine = (feature * functional.normalize(batch.retrieved_BV, dim=1)).sum(dim=1)
    assert losses["calibration"].item() == pytest.approx((2 - 2 * cosine).mean().item(), rel=1e-5)


def test_a_training_moves_the_balance_and_goes_by_the_same_steps(seen_world) -> None:
    world = seen_world
    training = ReflectionTraining(world.conditioner, world.train, world.validation, world.tools, world.config, batches=[[0, 1]], seed=1)
    before = training.validate()
    assert before == validate_look(world.conditioner, world.validation, world.tools, world.config, seed=1)
    assert training.take_step(0)["grad_rank"] > 0
    assert world.conditioner.look.read.weight.abs().max() > 0
    assert training.validate() != before
    assert any(parameter is world.conditioner.look.read.bias for parameter in list_trainable(world.conditioner, "calibrator"))


def test_eq_14_is_about_the_items_text_where_texts_are_given(world) -> None:
    texts = {case.reference_id: f"text {index}" for index, case in enumerate(world.cases)}
    tables = replace(world.tables, texts=texts)
    batch = build_batch(world.cases, world.inputs, tables, world.tools, world.config, seed=1, identity={"models": "fake"})
    expected, _ = world.tools.diffusion.encode_prompts(list(texts.values()))
    assert torch.equal(batch.caption_BSD, expected)
