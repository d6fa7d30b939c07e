"""One step with the real calibrator and mapper: which loss reaches which parameter, and that frozen parts stay.

Run: `python -m pytest tests/pipeline/reflection/test_step.py`.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pipeline.reflection.fit import list_trainable
from pipeline.reflection.policy import build_actions, choose_rows, draw_noise
from pipeline.reflection.step import compute_losses, observe_step, score_prompts, set_gradients, validate


def widen_vectors(world):
    """Give E_N^sem the width of a token: the printed eq. 14 compares it with rows of tokens."""
    vectors = torch.randn(8, world.tools.diffusion.token_dim, generator=torch.Generator().manual_seed(6))
    world.train = dataclasses.replace(world.train, semantic_BV=vectors)
    return world


def list_reached(conditioner, loss: torch.Tensor) -> set[str]:
    """Name the parts of the conditioner that get a gradient other than zero."""
    names, parameters = zip(*conditioner.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    reached = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None and gradient.abs().max() > 0}
    return {"mapper" if name.startswith("mapper.") else name.split(".")[1] for name in reached}


def test_each_loss_reaches_the_parameters_it_should_and_no_other(world) -> None:
    losses, _ = observe_step(world.conditioner, world.train.select([0, 1]), world.tools, world.config, seed=1, step=0)
    assert set(losses) == {"rank", "calibration", "semantic"}
    assert list_reached(world.conditioner, losses["semantic"]) == {"mapper"}
    everything = {"mapper", "text_projection", "text_norm", "query", "key", "log_scale"}
    assert list_reached(world.conditioner, losses["rank"]) == everything
    assert list_reached(world.conditioner, losses["calibration"]) == everything


def test_the_printed_semantic_loss_reaches_the_whole_of_the_detailed_preference_but_no_attention(make_world) -> None:
    world = widen_vectors(make_world({"semantic": "literal"}))
    losses, _ = observe_step(world.conditioner, world.train.select([0, 1]), world.tools, world.config, seed=1, step=0)
    assert list_reached(world.conditioner, losses["semantic"]) == {"mapper", "text_projection", "text_norm"}


def test_with_the_calibrator_alone_trained_no_loss_reaches_the_mapper(world) -> None:
    config = dataclasses.replace(world.config, trainable="calibrator")
    parameters = list_trainable(world.conditioner, config.trainable)
    assert {id(parameter) for parameter in parameters} == {id(parameter) for parameter in world.conditioner.calibrator.parameters()}
    losses, _ = observe_step(world.conditioner, world.train.select([0, 1]), world.tools, config, seed=1, step=0)
    logged = set_gradients(losses, parameters, config)
    assert logged["grad_semantic"] == 0.0  # eq. 14 in our reading reaches the mapper alone
    assert min(logged["grad_rank"], logged["grad_calibration"]) > 0
    assert all(parameter.grad is None for parameter in world.conditioner.mapper.parameters())


def test_the_literal_density_reaches_no_parameter(world) -> None:
    config = dataclasses.replace(world.config, policy="literal")
    losses, _ = observe_step(world.conditioner, world.train.select([0, 1]), world.tools, config, seed=1, step=0)
    parameters = [parameter for parameter in world.conditioner.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(losses["rank"], parameters, allow_unused=True)
    assert all(gradient is None or gradient.abs().max() == 0 for gradient in gradients)


def list_frozen(tools) -> list[torch.Tensor]:
    """List every weight of the frozen models."""
    return [tools.encoder.image_3V, tools.encoder.text_DV, tools.diffusion.colour_D3, *tools.ranker.model.state_dict().values()]


def test_a_step_changes_calibrator_and_mapper_and_nothing_that_is_frozen(world) -> None:
    conditioner = world.conditioner
    before = {name: value.clone() for name, value in conditioner.state_dict().items()}
    frozen = [value.clone() for value in list_frozen(world.tools)]
    parameters = list(conditioner.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    losses, _ = observe_step(conditioner, world.train.select([0, 1]), world.tools, world.config, seed=1, step=0)
    set_gradients(losses, parameters, world.config)
    optimizer.step()
    changed = {name for name, value in conditioner.state_dict().items() if not torch.equal(value, before[name])}
    assert changed >= {"calibrator.query.weight", "calibrator.key.weight", "calibrator.text_projection.weight", "mapper.model.weight"}
    assert "img_vectors_LD" not in changed
    assert all(torch.equal(old, new) for old, new in zip(frozen, list_frozen(world.tools), strict=True))
    assert not any(parameter.requires_grad for parameter in world.tools.ranker.model.parameters())


def test_gradients_are_the_weighted_sum_that_one_backward_pass_gives(world) -> None:
    config = dataclasses.replace(world.config, clip_norm=1e9)
    parameters = list(world.conditioner.parameters())
    losses, _ = observe_step(world.conditioner, world.train.select([0, 1]), world.tools, config, seed=1, step=0)
    total = config.alpha * losses["rank"] + config.beta * losses["calibration"] + config.gamma * losses["semantic"]
    expected = torch.autograd.grad(total, parameters, retain_graph=True)
    logged = set_gradients(losses, parameters, config)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert logged["loss"] == pytest.approx(total.item(), rel=1e-5)
    assert logged["grad"] == pytest.approx(torch.cat([gradient.flatten() for gradient in expected]).norm().item(), rel=1e-5)


def test_clipping_bounds_the_gradient(world) -> None:
    config = dataclasses.replace(world.config, clip_norm=1e-3)
    parameters = list(world.conditioner.parameters())
    losses, _ = observe_step(world.conditioner, world.train.select([0]), world.tools, config, seed=1, step=0)
    set_gradients(losses, parameters, config)
    assert torch.cat([parameter.grad.flatten() for parameter in parameters]).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_a_gradient_that_is_not_finite_is_one_clear_error(world) -> None:
    parameters = list(world.conditioner.parameters())
    broken = parameters[0].sum() * torch.tensor(float("nan"))
    with pytest.raises(ValueError, match="lower reflection.learning_rate"):
        set_gradients({"semantic": broken}, parameters, world.config)


def test_without_perturbations_there_is_no_rank_loss_and_no_image(world) -> None:
    drawn = world.tools.diffusion.num_drawn
    config = dataclasses.replace(world.config, num_perturbations=0)
    losses, row = observe_step(world.conditioner, world.train.select([0, 1]), world.tools, config, seed=1, step=0)
    assert set(losses) == {"calibration", "semantic"}
    assert row == {}
    assert world.tools.diffusion.num_drawn == drawn


def test_without_retrieval_there_is_no_calibration_loss(world) -> None:
    batch = world.train.select([0, 1])
    none = dataclasses.replace(batch, has_retrieved_B=torch.zeros(2, dtype=torch.bool))
    losses, _ = observe_step(world.conditioner, none, world.tools, world.config, seed=1, step=0)
    assert set(losses) == {"rank", "semantic"}


def test_a_case_without_retrieval_leaves_the_calibration_of_the_others_as_it_is(world) -> None:
    batch = world.train.select([0, 1])
    half = dataclasses.replace(batch, has_retrieved_B=torch.tensor([True, False]))
    one = compute_losses(world.conditioner(world.train.select([0]).inputs), world.train.select([0]), world.tools, world.config)
    both = compute_losses(world.conditioner(half.inputs), half, world.tools, world.config)
    torch.testing.assert_close(both["calibration"], one["calibration"])


def test_noise_depends_on_seed_step_and_case_only_and_spares_other_rows() -> None:
    mask_BT = torch.tensor([[True, True, False], [True, False, False]])
    noise = draw_noise(mask_BT, 4, ["a", "b"], num_noises=2, sigma=0.1, seed=1, step=5)
    alone = draw_noise(mask_BT[1:], 4, ["b"], num_noises=2, sigma=0.1, seed=1, step=5)
    other = draw_noise(mask_BT, 4, ["a", "b"], num_noises=2, sigma=0.1, seed=1, step=6)
    assert torch.equal(noise[1:], alone)
    assert not torch.equal(noise, other)
    assert noise[0, :, 2].abs().max() == 0
    assert not torch.equal(noise[0, 0, :2], noise[0, 1, :2])


def test_noise_has_the_deviation_asked_for() -> None:
    noise = draw_noise(torch.ones(1, 50, dtype=torch.bool), 200, ["a"], num_noises=2, sigma=0.3, seed=1, step=0)
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)  # 20,000 draws: standard error 0.5%


def test_actions_begin_with_the_unperturbed_prompt() -> None:
    prompt = torch.randn(2, 3, 4, requires_grad=True)
    noise = torch.randn(2, 5, 3, 4)
    actions = build_actions(prompt, noise)
    assert actions.shape == (2, 6, 3, 4)
    assert not actions.requires_grad
    torch.testing.assert_close(actions[:, 0], prompt.detach())
    torch.testing.assert_close(actions[:, 3], prompt.detach() + noise[:, 2])
    with pytest.raises(ValueError, match="has shape"):
        build_actions(prompt[:1], noise)


def test_by_default_only_attention_rows_are_perturbed(world) -> None:
    preference = world.conditioner(world.train.select([0]).inputs)
    attention = choose_rows(preference.prompt_BTD, preference.pool_mask_BT, "attention")
    num_tokens = world.tools.diffusion.num_tokens
    assert not attention[:, -num_tokens:].any()  # E^g, passed through
    assert choose_rows(preference.prompt_BTD, preference.pool_mask_BT, "all").all()


def test_the_same_prompt_gets_the_same_score_at_every_place(world) -> None:
    batch = world.train.select([0, 1])
    prompt = world.conditioner(batch.inputs).prompt_BTD.detach()
    scores = score_prompts(torch.stack([prompt, prompt + 0.5, prompt], dim=1), batch, world.tools, world.config, seed=1)
    assert torch.equal(scores[:, 0], scores[:, 2])
    assert not torch.equal(scores[:, 0], scores[:, 1])


@pytest.mark.parametrize(("draw_batch", "sizes"), [(16, [16, 8]), (8, [8, 8, 8]), (7, [4] * 6), (4, [4] * 6), (3, [3] * 8)])
def test_a_batch_holds_all_images_of_its_cases_unless_it_is_smaller_than_one_case(world, monkeypatch, draw_batch: int, sizes: list[int]) -> None:
    drawn: list[int] = []
    draw = world.tools.diffusion.draw
    monkeypatch.setattr(world.tools.diffusion, "draw", lambda prompt_BTD, **rest: drawn.append(len(prompt_BTD)) or draw(prompt_BTD, **rest))
    config = dataclasses.replace(world.config, draw_batch=draw_batch)
    observe_step(world.conditioner, world.train.select([0, 1, 2, 3, 4, 5]), world.tools, config, seed=1, step=0)
    assert drawn == sizes  # six cases of one unperturbed and three perturbed images


def test_drawing_in_smaller_pieces_changes_no_score(world) -> None:
    batch = world.train.select([0, 1, 2])
    pieces = dataclasses.replace(world.config, draw_batch=2)
    whole, cut = (validate(world.conditioner, batch, world.tools, config, seed=1) for config in (world.config, pieces))
    assert whole == cut
