"""Stage 0, the training of [IMG] vectors and mapper, with tiny models. Run: pytest tests/pipeline/conditioning/test_fit.py"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from pipeline.conditioning import fit
from pipeline.conditioning.fit import CaptionSet, MapperState, build_captions, choose_captions, compute_rate, fit_mapper, summarise_fit, write_prompts
from pipeline.models.diffusion import Diffusion
from pipeline.models.llm import LanguageModel, LazyLanguageModel
from tests.configs import MAPPER as CONFIG

CAPTIONS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("dog", "cat", "car", "cow")]


@pytest.fixture
def captions(diffusion: Diffusion) -> CaptionSet:
    return build_captions(write_prompts(CAPTIONS, CONFIG), diffusion, CONFIG)


def run(captions: CaptionSet, language_model: LanguageModel, *, seed: int = 0) -> MapperState:
    llm = LazyLanguageModel(lambda: language_model, revision="tiny", dtype=torch.float32)
    return fit_mapper(captions, CONFIG, llm=llm, diffusion_revision="tiny", device=torch.device("cpu"), seed=seed, checkpoint_every=2)


def list_tensors(state: MapperState) -> dict[str, torch.Tensor]:
    return {**state.mapper.state_dict(), "img_vectors": state.img_vectors_LD.detach()}


@pytest.mark.parametrize("stop_at", [1, 3, 4, 8])
def test_a_training_killed_at_any_step_ends_with_the_same_weights(
    captions: CaptionSet,
    language_model: LanguageModel,
    stop_at: int,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed = run(captions, language_model)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("killed")))
    take_step = fit.take_step

    def take_step_or_die(state: MapperState, *args: Any) -> dict[str, Any]:
        if state.step == stop_at:
            raise KeyboardInterrupt
        return take_step(state, *args)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "take_step", take_step_or_die)
        with pytest.raises(KeyboardInterrupt):
            run(captions, language_model)
    resumed = run(captions, language_model)
    assert resumed.curves == undisturbed.curves
    expected = list_tensors(undisturbed)
    assert all(torch.equal(value, expected[name]) for name, value in list_tensors(resumed).items())


def test_training_lowers_the_loss_and_moves_the_vectors_along_their_sphere(
    captions: CaptionSet, language_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: Iterator[torch.Tensor] = iter([])
    build_state = fit.build_state

    def remember(*args: Any, **options: Any) -> MapperState:
        nonlocal starts
        state = build_state(*args, **options)
        starts = iter([state.img_vectors_LD.detach().clone()])
        return state

    monkeypatch.setattr(fit, "build_state", remember)
    state = run(captions, language_model)
    start = next(starts)
    assert state.curves[-1]["loss"] < state.curves[0]["loss"]
    assert not torch.equal(start, state.img_vectors_LD)
    torch.testing.assert_close(state.img_vectors_LD.norm(dim=1), start.norm(dim=1))


def test_the_language_model_is_not_changed(captions: CaptionSet, language_model: LanguageModel) -> None:
    before = {name: value.clone() for name, value in language_model.model.state_dict().items()}
    run(captions, language_model)
    assert all(torch.equal(value, before[name]) for name, value in language_model.model.state_dict().items())


def test_the_curves_name_both_phases_and_measure_held_out_captions(captions: CaptionSet, language_model: LanguageModel) -> None:
    state = run(captions, language_model)
    assert [row["phase"] for row in state.curves] == ["img"] * 3 + ["mapper"] * 6
    assert [row["step"] for row in state.curves if "held_out_loss" in row] == [4, 6, 8, 9]
    metrics = summarise_fit(state, captions)
    assert (metrics["num_captions"], metrics["num_held_out"]) == (6, 2)
    assert metrics["held_out_loss"] == state.curves[-1]["held_out_loss"]


def test_held_out_captions_are_never_trained_on(captions: CaptionSet, language_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    choose_batch = fit.choose_batch

    def remember(*args: Any, **options: Any) -> list[int]:
        batch = choose_batch(*args, **options)
        seen.update(batch)
        return batch

    monkeypatch.setattr(fit, "choose_batch", remember)
    run(captions, language_model)
    assert max(seen) < captions.num_train == 6


def test_captions_are_those_of_the_given_items_once_each_in_a_seeded_order() -> None:
    caption_of = {"a": "red dog", "b": "red  dog", "c": "cat", "d": "car", "held out": "secret"}
    first = choose_captions(caption_of, ["a", "b", "c", "d", "no caption"], CONFIG, seed=0)
    assert sorted(first) == ["car", "cat", "red dog"]
    assert first == choose_captions(caption_of, ["d", "c", "b", "a"], CONFIG, seed=0)


def test_too_few_captions_to_hold_some_out_are_an_error(diffusion: Diffusion) -> None:
    with pytest.raises(ValueError, match="only 2 captions"):
        build_captions(write_prompts(["cat", "dog"], CONFIG), diffusion, CONFIG)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    rates = [compute_rate(step, num_steps=10, warmup_steps=2) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.05
