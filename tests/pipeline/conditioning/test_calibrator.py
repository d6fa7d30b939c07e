"""The balance calibrator against eq. 9. Run: pytest tests/pipeline/conditioning/test_calibrator.py"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pipeline.conditioning.calibrator import BalanceCalibrator, compute_cosine_attention, compute_literal_attention
from tests.configs import CALIBRATOR

SIZE, NUM_TEXT, NUM_TOKENS, LLM_DIM, TOKEN_DIM = 2, 5, 4, 6, 8


def make_calibrator(attention: str = "learned", fusion: str = "concat") -> BalanceCalibrator:
    config = replace(CALIBRATOR, attention=attention, fusion=fusion)
    return BalanceCalibrator(config, llm_dim=LLM_DIM, token_dim=TOKEN_DIM, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "text_BTD": torch.randn(SIZE, NUM_TEXT, LLM_DIM, generator=generator),
        "text_mask_BT": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
        "mapped_BKD": torch.randn(SIZE, NUM_TOKENS, TOKEN_DIM, generator=generator),
        "global_BKD": torch.randn(SIZE, NUM_TOKENS, TOKEN_DIM, generator=generator),
        "global_mask_BK": torch.tensor([[True, True, True, False], [True, True, False, False]]),
    }


def test_literal_attention_is_equation_9() -> None:
    query = torch.tensor([[[2.0, 0.0]]])
    key = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    weight = math.exp(2 / math.sqrt(2))
    torch.testing.assert_close(compute_literal_attention(query, key), torch.tensor([[[weight / (weight + 1), 1 / (weight + 1)]]]))


def test_cosine_attention_ignores_length_and_masked_keys() -> None:
    query = torch.tensor([[[5.0, 0.0]]])
    key = torch.tensor([[[3.0, 0.0], [0.0, 0.1], [9.0, 9.0]]])
    weights = compute_cosine_attention(query, key, torch.tensor([[True, True, False]]), scale=math.log(3.0))
    torch.testing.assert_close(weights, torch.tensor([[[0.75, 0.25, 0.0]]]))


def test_p_gen_has_the_rows_of_equation_9(inputs: dict[str, torch.Tensor]) -> None:
    preference = make_calibrator()(**inputs)
    assert preference.prompt_BTD.shape == (SIZE, NUM_TEXT + 2 * NUM_TOKENS, TOKEN_DIM)
    assert torch.equal(preference.prompt_BTD[:, -NUM_TOKENS:], inputs["global_BKD"])
    assert torch.equal(preference.mapped_BKD, inputs["mapped_BKD"])


def test_the_detailed_preference_is_the_projected_text_then_the_mappers_output(inputs: dict[str, torch.Tensor]) -> None:
    calibrator = make_calibrator()
    preference = calibrator(**inputs)
    projected = calibrator.text_norm(calibrator.text_projection(inputs["text_BTD"]))
    assert torch.equal(preference.detailed_BTD, torch.cat([projected, inputs["mapped_BKD"]], dim=1))
    assert preference.detailed_mask_BT[1].tolist() == [True] * 3 + [False] * 2 + [True] * 4


def test_every_attention_row_is_a_convex_combination_of_words_of_the_global_prompt(inputs: dict[str, torch.Tensor]) -> None:
    preference = make_calibrator()(**inputs)
    # the second case has one key: its first token and its padding are none
    torch.testing.assert_close(preference.prompt_BTD[1, :3], inputs["global_BKD"][1, 1].expand(3, -1))
    rows, states = preference.prompt_BTD[0, :NUM_TEXT], inputs["global_BKD"][0, 1:3]
    assert (rows >= states.min(dim=0).values - 1e-6).all()
    assert (rows <= states.max(dim=0).values + 1e-6).all()


def test_pooling_takes_attention_rows_that_stand_for_something(inputs: dict[str, torch.Tensor]) -> None:
    pool_mask = make_calibrator()(**inputs).pool_mask_BT
    assert pool_mask[0].tolist() == [True] * 9 + [False] * 4
    assert pool_mask[1].tolist() == [True] * 3 + [False] * 2 + [True] * 4 + [False] * 4


def test_an_empty_text_row_holds_the_first_state_of_the_global_prompt(inputs: dict[str, torch.Tensor]) -> None:
    prompt = make_calibrator()(**inputs).prompt_BTD
    assert torch.equal(prompt[1, 3:5], inputs["global_BKD"][1, :1].expand(2, -1))


def test_padding_of_the_text_changes_nothing_else(inputs: dict[str, torch.Tensor]) -> None:
    calibrator = make_calibrator()
    changed = inputs["text_BTD"].clone()
    changed[1, 3:] = 99.0
    assert torch.equal(calibrator(**inputs).prompt_BTD, calibrator(**{**inputs, "text_BTD": changed}).prompt_BTD)


def test_learned_attention_starts_as_plain_cosine_attention(inputs: dict[str, torch.Tensor]) -> None:
    keys = inputs["global_mask_BK"].clone()
    keys[:, 0] = False
    expected = compute_cosine_attention(inputs["mapped_BKD"], inputs["global_BKD"], keys, scale=10.0) @ inputs["global_BKD"]
    prompt = make_calibrator()(**inputs).prompt_BTD
    torch.testing.assert_close(prompt[:, NUM_TEXT : NUM_TEXT + NUM_TOKENS], expected)


def test_the_literal_reading_has_only_the_projection_to_learn(inputs: dict[str, torch.Tensor]) -> None:
    calibrator = make_calibrator("literal")
    assert {name.split(".")[0] for name, _ in calibrator.named_parameters()} == {"text_projection", "text_norm"}
    expected = compute_literal_attention(inputs["mapped_BKD"], inputs["global_BKD"]) @ inputs["global_BKD"]
    torch.testing.assert_close(calibrator(**inputs).prompt_BTD[:, NUM_TEXT : NUM_TEXT + NUM_TOKENS], expected)


def test_residual_add_lets_the_detailed_preference_through(inputs: dict[str, torch.Tensor]) -> None:
    plain, added = make_calibrator()(**inputs).prompt_BTD, make_calibrator(fusion="residual_add")(**inputs).prompt_BTD
    rows = slice(NUM_TEXT, NUM_TEXT + NUM_TOKENS)
    torch.testing.assert_close(added[:, rows] - plain[:, rows], inputs["mapped_BKD"])
    assert torch.equal(added[:, -NUM_TOKENS:], inputs["global_BKD"])


def test_a_loss_on_attention_rows_reaches_queries_keys_temperature_and_projection(inputs: dict[str, torch.Tensor]) -> None:
    calibrator = make_calibrator()
    inputs["mapped_BKD"].requires_grad_(True)
    preference = calibrator(**inputs)
    preference.prompt_BTD[preference.pool_mask_BT].square().sum().backward()
    for name, parameter in calibrator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert inputs["mapped_BKD"].grad is not None


def test_empty_prompts_are_named(inputs: dict[str, torch.Tensor]) -> None:
    inputs["global_mask_BK"][:, 1:] = False
    with pytest.raises(ValueError, match="no token to attend to"):
        make_calibrator()(**inputs)
