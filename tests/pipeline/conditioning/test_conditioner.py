"""From prompts to P^gen with tiny models of the hub's classes. Run: pytest tests/pipeline/conditioning/test_conditioner.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.conditioning import states
from pipeline.conditioning.conditioner import Conditioner, ConditionInputs, build_conditioner, load_conditioner, save_conditioner
from pipeline.conditioning.config import PromptFormat
from pipeline.conditioning.mapper import MapperShape, ModalMapper, save_mapper
from pipeline.conditioning.states import compute_condition_inputs, from_bytes, to_bytes
from pipeline.models.diffusion import Diffusion
from pipeline.models.llm import LanguageModel, LazyLanguageModel, PromptStates
from tests.configs import CALIBRATOR as CONFIG
from tests.tiny_models import LLM_DIM, NUM_TOKENS, TOKEN_DIM

NUM_TEXT, NUM_IMG = 6, 3
SHAPE = MapperShape(
    d_model=16, num_layers=1, num_heads=2, ffn_dim=16, input_dim=LLM_DIM, num_img_tokens=NUM_IMG, num_tokens=NUM_TOKENS, token_dim=TOKEN_DIM
)
PREFERENCES = [
    {"global_prompt": "dog, red", "detailed_prompt": "likes red; shows a dog:"},
    {"global_prompt": "cat", "detailed_prompt": "cat"},
    {"global_prompt": "dog, red", "detailed_prompt": "likes red; shows a dog:"},
]


@pytest.fixture
def llm(language_model: LanguageModel) -> LazyLanguageModel:
    return LazyLanguageModel("tiny", lambda: language_model, torch.float32)


@pytest.fixture
def conditioner(tmp_path: Path) -> Conditioner:
    generator = torch.Generator().manual_seed(0)
    mapper, vectors = ModalMapper(SHAPE, generator=generator), torch.randn(NUM_IMG, LLM_DIM, generator=generator)
    save_mapper(tmp_path / "mapper.safetensors", mapper, vectors, {"prompt_format": {"prompt_style": "few_shot", "max_text_tokens": NUM_TEXT}})
    conditioner, _ = build_conditioner(tmp_path / "mapper.safetensors", CONFIG, generator=generator)
    return conditioner


def compute_inputs(conditioner: Conditioner, llm: LazyLanguageModel, diffusion: Diffusion) -> ConditionInputs:
    return compute_condition_inputs(PREFERENCES, llm=llm, diffusion=diffusion, conditioner=conditioner, batch_size=2)


def test_inputs_hold_the_states_of_both_prompts(
    conditioner: Conditioner, llm: LazyLanguageModel, language_model: LanguageModel, diffusion: Diffusion
) -> None:
    inputs = compute_inputs(conditioner, llm, diffusion)
    direct = language_model.forward_states(["likes red; shows a dog:", "cat"], conditioner.img_vectors_LD, max_text_tokens=NUM_TEXT)
    torch.testing.assert_close(inputs.img_BLD[:2], direct.img_BLD)
    torch.testing.assert_close(inputs.text_BTD[:2], direct.text_BTD)
    assert inputs.text_mask_BT.sum(dim=1).tolist() == [6, 3, 6]
    torch.testing.assert_close(inputs.global_BKD, diffusion.encode_prompts(["dog, red", "cat", "dog, red"])[0])
    assert len(inputs) == 3
    assert torch.equal(inputs.select([2]).img_BLD[0], inputs.img_BLD[0])


def test_states_that_are_not_finite_end_the_stage_in_one_sentence(
    conditioner: Conditioner, llm: LazyLanguageModel, diffusion: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_prompts = states.run_prompts

    def overflow(*arguments: Any) -> PromptStates:
        computed = run_prompts(*arguments)
        return replace(computed, img_BLD=computed.img_BLD / 0.0)

    monkeypatch.setattr(states, "run_prompts", overflow)
    with pytest.raises(ValueError, match=r"states are not finite in torch.float32; set models.language_model_dtype to float32"):
        compute_inputs(conditioner, llm, diffusion)


def test_states_are_computed_once_and_read_back_to_the_last_bit(conditioner: Conditioner, llm: LazyLanguageModel, diffusion: Diffusion) -> None:
    def refuse() -> LanguageModel:
        raise AssertionError("the language model was loaded again")

    first = compute_inputs(conditioner, llm, diffusion)
    second = compute_inputs(conditioner, LazyLanguageModel("tiny", refuse, torch.float32), diffusion)
    assert torch.equal(first.img_BLD, second.img_BLD)
    assert torch.equal(first.text_BTD, second.text_BTD)


def test_other_img_vectors_or_weights_are_other_states(conditioner: Conditioner, llm: LazyLanguageModel, diffusion: Diffusion) -> None:
    first = compute_inputs(conditioner, llm, diffusion)
    conditioner.img_vectors_LD.mul_(2.0)
    assert not torch.equal(first.img_BLD, compute_inputs(conditioner, llm, diffusion).img_BLD)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_storing_states_in_the_models_format_loses_nothing(dtype: torch.dtype) -> None:
    states = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(dtype).float()
    assert torch.equal(from_bytes(to_bytes(states, dtype), dtype).reshape(3, 5), states)


def test_p_gen_draws_with_more_rows_than_the_text_encoder_has(conditioner: Conditioner, llm: LazyLanguageModel, diffusion: Diffusion) -> None:
    prompt_BTD = conditioner(compute_inputs(conditioner, llm, diffusion)).prompt_BTD
    assert prompt_BTD.shape == (3, NUM_TEXT + 2 * NUM_TOKENS, TOKEN_DIM)
    generators = [torch.Generator().manual_seed(5) for _ in range(3)]
    images = diffusion.draw(prompt_BTD.detach(), generators=generators, steps=2, guidance_scale=3.0)
    assert images.shape == (3, 16, 16, 3)
    assert (images[0] == images[2]).all()


def test_a_semantic_loss_trains_the_mapper_and_nothing_trains_the_img_vectors(
    conditioner: Conditioner, llm: LazyLanguageModel, diffusion: Diffusion
) -> None:
    preference = conditioner(compute_inputs(conditioner, llm, diffusion))
    preference.mapped_BKD.square().mean().backward()
    assert all(parameter.grad is not None for parameter in conditioner.mapper.parameters())
    assert all(parameter.grad is None for parameter in conditioner.calibrator.parameters())
    assert not conditioner.img_vectors_LD.requires_grad
    assert "img_vectors_LD" not in dict(conditioner.named_parameters())


def test_a_file_brings_back_the_conditioner_in_its_prompt_format(conditioner: Conditioner, tmp_path: Path) -> None:
    with torch.no_grad():
        conditioner.calibrator.query.weight.mul_(1.5)
    save_conditioner(tmp_path / "calibrator.safetensors", conditioner, {"seed": 3})
    loaded, facts = load_conditioner(tmp_path / "calibrator.safetensors")
    assert facts == {"seed": 3}
    assert loaded.prompt_format == PromptFormat(prompt_style="few_shot", max_text_tokens=NUM_TEXT)
    assert loaded.calibrator.config == CONFIG
    state = conditioner.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_a_mapper_for_another_diffusion_model_is_refused(conditioner: Conditioner, llm: LazyLanguageModel) -> None:
    class Other:
        num_tokens, token_dim = 77, 768

    with pytest.raises(ValueError, match=r"\(12, 32\), but the diffusion model has \(77, 768\)"):
        compute_inputs(conditioner, llm, Other())
