"""Stage 0, the training of [IMG] vectors and mapper, with tiny models. Run: pytest tests/pipeline/conditioning/test_fit.py"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.conditioning import fit
from pipeline.conditioning.fit import CaptionSet, MapperTraining, build_captions, choose_captions, fit_mapper, write_prompts
from pipeline.conditioning.run import summarise_fit
from pipeline.models.diffusion import Diffusion
from pipeline.models.llm import LanguageModel, LazyLanguageModel
from pipeline.training import TrainingState
from tests.configs import MAPPER as CONFIG

CAPTIONS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("dog", "cat", "car", "cow")]


@pytest.fixture
def captions(diffusion: Diffusion) -> CaptionSet:
    return build_captions(write_prompts(CAPTIONS, CONFIG), diffusion, CONFIG)


def run(captions: CaptionSet, language_model: LanguageModel, *, seed: int = 0) -> tuple[MapperTraining, TrainingState]:
    llm = LazyLanguageModel("tiny", lambda: language_model, torch.float32)
    return fit_mapper(captions, CONFIG, llm=llm, device=torch.device("cpu"), seed=seed, checkpoint_every=2)


@pytest.mark.parametrize("stop_at", [1, 3, 4, 8])
def test_a_training_killed_at_any_step_ends_with_the_same_weights(
    captions: CaptionSet,
    language_model: LanguageModel,
    stop_at: int,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed, expected = run(captions, language_model)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("killed")))
    take_step = MapperTraining.take_step

    def take_step_or_die(self: MapperTraining, step: int) -> dict[str, Any]:
        if step == stop_at:
            raise KeyboardInterrupt
        return take_step(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(MapperTraining, "take_step", take_step_or_die)
        with pytest.raises(KeyboardInterrupt):
            run(captions, language_model)
    resumed, state = run(captions, language_model)
    assert state.curves == expected.curves
    tensors = undisturbed.name_tensors()
    assert all(torch.equal(value, tensors[name]) for name, value in resumed.name_tensors().items())


def test_training_lowers_the_loss_and_moves_the_vectors_along_their_sphere(captions: CaptionSet, language_model: LanguageModel) -> None:
    training, state = run(captions, language_model)
    llm = LazyLanguageModel("tiny", lambda: language_model, torch.float32)
    start_LD = MapperTraining(captions, CONFIG, llm=llm, device=torch.device("cpu"), seed=0).img_vectors_LD
    assert state.curves[-1]["loss"] < state.curves[0]["loss"]
    assert not torch.equal(start_LD, training.img_vectors_LD)
    torch.testing.assert_close(training.img_vectors_LD.norm(dim=1), start_LD.norm(dim=1))


def test_other_captions_start_another_training(captions: CaptionSet, language_model: LanguageModel, diffusion: Diffusion) -> None:
    training, _ = run(captions, language_model)
    prompted = [(prompt, f"no {caption}") for prompt, caption in write_prompts(CAPTIONS, CONFIG)]
    other, _ = run(build_captions(prompted, diffusion, CONFIG), language_model)
    assert not torch.equal(training.img_vectors_LD, other.img_vectors_LD)


def test_the_language_model_is_not_changed(captions: CaptionSet, language_model: LanguageModel) -> None:
    before = {name: value.clone() for name, value in language_model.model.state_dict().items()}
    run(captions, language_model)
    assert all(torch.equal(value, before[name]) for name, value in language_model.model.state_dict().items())


def test_the_curves_name_both_phases_and_measure_held_out_captions(captions: CaptionSet, language_model: LanguageModel) -> None:
    _, state = run(captions, language_model)
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
    with pytest.raises(ValueError, match=r"needs at least 3 different captions of .*, 2 of them to hold out, but the stage captioning wrote 2"):
        build_captions(write_prompts(["cat", "dog"], CONFIG), diffusion, CONFIG)
