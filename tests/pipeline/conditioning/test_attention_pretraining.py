"""The calibrator's attention learns where to point. Run: python -m pytest tests/pipeline/conditioning/test_attention_pretraining.py"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.conditioning.attention_pretraining import (
    AttentionTraining,
    build_targets,
    compute_attention_loss,
    holds,
    list_parts,
    pretrain_attention,
)
from pipeline.conditioning.calibrator import BalanceCalibrator
from pipeline.conditioning.conditioner import Conditioner, build_conditioner
from pipeline.conditioning.leave_one_out import LeaveOneOutCase
from pipeline.conditioning.mapper import MapperShape, ModalMapper, save_mapper
from pipeline.models.diffusion import Diffusion
from pipeline.models.llm import LanguageModel, LazyLanguageModel
from pipeline.training import TrainingState
from tests.configs import CALIBRATOR
from tests.configs import MAPPER as CONFIG
from tests.tiny_models import LLM_DIM, NUM_TOKENS, TOKEN_DIM

SHAPE = MapperShape(
    d_model=16, num_layers=1, num_heads=2, ffn_dim=16, input_dim=LLM_DIM, num_img_tokens=2, num_tokens=NUM_TOKENS, token_dim=TOKEN_DIM
)
SETTINGS = dataclasses.replace(CONFIG, attention_steps=40, held_out_captions=2)
EXAMPLES = [
    LeaveOneOutCase(f"likes {style}: {thing}", f"{thing}, red, old", f"a {style} {thing}", thing)
    for thing in ("ox", "ax", "pi")  # short: prompts have twelve tokens of one letter
    for style in ("red", "old")
]


def make_conditioner() -> Conditioner:
    generator = torch.Generator().manual_seed(0)
    mapper, vectors_LD = ModalMapper(SHAPE, generator=generator), torch.randn(2, LLM_DIM, generator=generator)
    calibrator = BalanceCalibrator(CALIBRATOR, llm_dim=LLM_DIM, token_dim=TOKEN_DIM, generator=generator)
    return Conditioner(mapper, calibrator, vectors_LD, SETTINGS.prompt_format)


def teach(conditioner: Conditioner, language_model: LanguageModel, diffusion: Diffusion) -> TrainingState:
    models = {"llm": LazyLanguageModel("tiny", lambda: language_model, torch.float32), "diffusion": diffusion}
    return pretrain_attention(conditioner, EXAMPLES, SETTINGS, **models, seed=0, checkpoint_every=3)


def test_the_places_are_those_of_a_prompts_parts(diffusion: Diffusion) -> None:
    tokenizer = diffusion.pipeline.tokenizer
    prompt = "cow, red, car and much more that is cut off"
    token_ids = tokenizer(prompt, truncation=True, max_length=NUM_TOKENS)["input_ids"]
    parts = list_parts(prompt, tokenizer, num_tokens=NUM_TOKENS)
    assert [part for part, _ in parts] == ["cow", "red"]
    for word, found in parts:
        assert [token_ids[place] for place in found] == tokenizer(word, add_special_tokens=False)["input_ids"]


def test_a_caption_holds_whole_words_only() -> None:
    assert holds("a  Red cow", "red")
    assert holds("a  Red cow", "red  Cow")
    assert not holds("cowboys are redder", "cow")


def test_a_telling_word_gets_more_attention_than_a_common_one_and_the_items_own_name_none(diffusion: Diffusion) -> None:
    tokenizer = diffusion.pipeline.tokenizer
    prompt = "ox, red, car"
    captions = ("a red car and an ox", "an old car", "a car", "nothing", "a bee")
    target_NK = build_targets([LeaveOneOutCase("", prompt, caption, "Ox") for caption in captions], tokenizer, num_tokens=NUM_TOKENS)
    places = dict(list_parts(prompt, tokenizer, num_tokens=NUM_TOKENS))
    shares = [{word: target_NK[row, places[word]].sum().item() for word in places} for row in range(len(captions))]
    red, car = math.log(5 / 1), math.log(5 / 3)  # one caption of five is red, three hold a car
    assert shares[0] == pytest.approx({"ox": 0.0, "red": red / (red + car), "car": car / (red + car)})
    assert shares[2] == pytest.approx({"ox": 0.0, "red": 0.0, "car": 1.0})
    assert target_NK[3].sum() == target_NK[4].sum() == 0
    everywhere = build_targets([LeaveOneOutCase("", prompt, "a red car", "ox")] * 2, tokenizer, num_tokens=NUM_TOKENS)
    assert everywhere.sum() == 0  # what every caption says tells nothing


def test_the_loss_is_the_cross_entropy_and_refuses_to_broadcast() -> None:
    mean_BK = torch.tensor([[0.5, 0.25, 0.25]])
    target_BK = torch.tensor([[0.5, 0.5, 0.0]])
    expected = -(0.5 * torch.log(torch.tensor(0.5)) + 0.5 * torch.log(torch.tensor(0.25)))
    torch.testing.assert_close(compute_attention_loss(mean_BK, target_BK), expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="differ in shape"):
        compute_attention_loss(mean_BK, target_BK[0])


def test_teaching_moves_the_attention_of_held_out_cases_and_nothing_but_the_calibrator(language_model: LanguageModel, diffusion: Diffusion) -> None:
    conditioner = make_conditioner()
    before = {name: value.clone() for name, value in conditioner.state_dict().items()}
    curves = teach(conditioner, language_model, diffusion).curves
    assert curves[-1]["attention_mass"] > curves[0]["attention_mass"] + 0.1
    changed = {name.split(".")[0] for name, value in conditioner.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"calibrator"}


@pytest.mark.parametrize("stop_at", [1, 5, 39])
def test_teaching_that_breaks_off_goes_on_to_the_same_weights(
    language_model: LanguageModel, diffusion: Diffusion, stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = make_conditioner(), make_conditioner()
    expected = teach(whole, language_model, diffusion)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "broken"))
    take_step = AttentionTraining.take_step
    taken: list[int] = []

    def take_step_or_die(self: AttentionTraining, step: int) -> dict[str, Any]:
        taken.append(step)
        if taken.count(stop_at) == 1 and step == stop_at:
            raise KeyboardInterrupt
        return take_step(self, step)

    monkeypatch.setattr(AttentionTraining, "take_step", take_step_or_die)
    with pytest.raises(KeyboardInterrupt):
        teach(make_conditioner(), language_model, diffusion)
    assert teach(resumed, language_model, diffusion).curves == expected.curves
    assert taken[stop_at + 1] == stop_at // 3 * 3  # the last checkpoint
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_reflection_starts_from_the_taught_calibrator_and_refuses_one_of_another_kind(tmp_path: Path) -> None:
    conditioner, path = make_conditioner(), tmp_path / "mapper.safetensors"
    facts = {"prompt_format": dataclasses.asdict(SETTINGS.prompt_format)}
    save_mapper(path, conditioner.mapper, conditioner.img_vectors_LD, facts, calibrator=conditioner.calibrator.state_dict())
    loaded, _ = build_conditioner(path, CALIBRATOR, generator=torch.Generator().manual_seed(9))
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in conditioner.state_dict().items())
    with pytest.raises(ValueError, match="is not one of attention 'literal': run the stage mapper again"):
        build_conditioner(path, dataclasses.replace(CALIBRATOR, attention="literal"), generator=torch.Generator())
