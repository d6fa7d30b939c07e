"""PMG's soft preference embeddings: module, training, resuming. Run: `python -m pytest tests/pipeline/baselines/pmg/test_fit.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.baselines.pmg.config import PmgConfig
from pipeline.baselines.pmg.fit import PmgCase, PmgTools, SoftTraining, TrainingSet, build_soft, compute_losses, draw_batch
from pipeline.baselines.pmg.keywords import ItemWords
from pipeline.baselines.pmg.run import compute_soft, run_soft
from pipeline.models.denoising import Denoiser
from pipeline.models.diffusion import load_diffusion
from pipeline.models.lazy import LazyModel
from pipeline.models.llm import LazyLanguageModel, load_language_model
from pipeline.models.soft_prompt import SoftPreference, read_shape
from pipeline.randomness import make_generator
from tests.pipeline.baselines.pmg.test_keywords import CONFIG
from tests.tiny_models import LLM_DIM, TOKEN_DIM, save_tiny_qwen2, save_tiny_stable_diffusion


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> PmgTools:
    folder = tmp_path_factory.mktemp("models")
    diffusion = load_diffusion(str(save_tiny_stable_diffusion(folder / "sd")))
    return PmgTools(load_language_model(str(save_tiny_qwen2(folder / "qwen2"))), diffusion, Denoiser(diffusion))


def make_training_set(num_cases: int = 4) -> TrainingSet:
    items = [f"i{index}" for index in range(8)]
    words = ItemWords({item: item for item in items}, {item: f"a {item}" for item in items}, {})
    latents = {item: torch.randn(4, 8, 8, generator=make_generator(0, item)) for item in items}
    cases = [PmgCase(f"c{index}", tuple(items[index : index + 4]), ("red",)) for index in range(num_cases + 1)]
    return TrainingSet(cases[:-1], cases[-1:], words, latents)


def train(tools: PmgTools, config: PmgConfig = CONFIG, training_set: TrainingSet | None = None):
    llm = LazyLanguageModel("r", lambda: tools.language_model, torch.float32)
    diffusion = LazyModel("d", lambda: tools.diffusion)
    return run_soft(training_set or make_training_set(), config, llm=llm, diffusion=diffusion, seed=0, checkpoint_every=2)


def build_module(tools: PmgTools) -> SoftPreference:
    shape = read_shape(tools.language_model, num_prefix=2, num_soft=3, token_dim=TOKEN_DIM)
    row, norm = tools.language_model.measure_embedding()
    return SoftPreference(
        shape, mean_row_D=row, mean_norm=norm, mean_state_d=torch.arange(TOKEN_DIM).float(), generator=torch.Generator().manual_seed(0)
    )


def test_untrained_embeddings_are_near_the_mean_token_state_and_all_parts_get_gradients(tools: PmgTools) -> None:
    module = build_module(tools)
    soft_BMd = module(["red dog", "a much longer prompt about cats"], tools.language_model)
    assert soft_BMd.shape == (2, 3, TOKEN_DIM)
    torch.testing.assert_close(soft_BMd, torch.arange(TOKEN_DIM).float().expand_as(soft_BMd), atol=0.2, rtol=0)
    soft_BMd.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    assert all(parameter.grad is None for parameter in tools.language_model.model.parameters())


def test_a_prompts_embeddings_do_not_depend_on_the_others_padding(tools: PmgTools) -> None:
    module = build_module(tools)
    with torch.no_grad():
        alone, together = module(["red dog"], tools.language_model), module(["red dog", "word " * 20], tools.language_model)
    torch.testing.assert_close(alone[0], together[0], rtol=1e-4, atol=1e-6)


def test_the_prefix_changes_every_layers_keys_and_values_as_given(tools: PmgTools) -> None:
    module = build_module(tools)
    cache = module.build_cache(2, torch.float32)
    shape = module.shape
    table = module.prefix.view(shape.num_prefix, shape.num_layers, 2, shape.num_heads, shape.head_dim)
    for layer in range(shape.num_layers):
        keys, values = cache.layers[layer].keys, cache.layers[layer].values
        assert keys.shape == (2, shape.num_heads, shape.num_prefix, shape.head_dim)
        torch.testing.assert_close(keys[1, 0, 1], table[1, layer, 0, 0])
        torch.testing.assert_close(values[0, 1, 0], table[0, layer, 1, 1])


def test_the_shape_is_that_of_the_published_module() -> None:
    width = 32 * 2 * 32 * 128  # Llama-2-7B: layers, keys and values, heads, head width
    assert width == 262_144
    shape = type("Config", (), {"hidden_size": LLM_DIM, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2})
    model = type("Model", (), {"model": type("M", (), {"config": shape})})
    assert read_shape(model, num_prefix=4, num_soft=4, token_dim=8).head_dim == LLM_DIM // 4


def test_a_steps_images_are_left_out_of_its_soft_prompt(tools: PmgTools) -> None:
    training_set = make_training_set()
    batch = draw_batch(training_set.train[:1], training_set, CONFIG, tools, name="0", seed=0)
    drawn = {prompt.split(",")[0] for prompt in batch.image_prompts}
    assert len(batch.image_prompts) == CONFIG.images_per_case * CONFIG.noises_per_image == len(batch.latents)
    assert len(drawn) == 2
    assert not any(item in batch.soft_prompts[0] for item in drawn)
    assert all(f"a {item}" in batch.soft_prompts[0] for item in set(training_set.train[0].history) - drawn)


def test_without_the_module_the_condition_is_the_keywords_alone(tools: PmgTools) -> None:
    training_set = make_training_set()
    batch = draw_batch(training_set.train[:1], training_set, CONFIG, tools, name="0", seed=0)
    module = build_soft(training_set, CONFIG, tools, seed=0)
    with torch.no_grad():
        bare, soft = compute_losses(batch, tools, None), compute_losses(batch, tools, module)
    assert bare.shape == soft.shape == (4,)
    assert not torch.equal(bare, soft)
    prompt, _ = tools.diffusion.encode_prompts(batch.image_prompts)
    with torch.no_grad():
        torch.testing.assert_close(bare, tools.denoiser.compute_loss(batch.latents, prompt, batch.timesteps, batch.noises))


def test_training_lowers_the_objective_on_validation_cases(tools: PmgTools) -> None:
    training_set = make_training_set()
    same = training_set.latents["i0"]
    training_set.latents.update(dict.fromkeys(training_set.latents, same))  # a world in which there is something to learn
    config = replace(CONFIG, num_steps=60, validation_every=30, learning_rate=0.03, noises_per_image=4)
    _, _, metrics = train(tools, config, training_set)
    assert metrics["validation_loss"] < metrics["validation_loss_before"]
    assert metrics["validation_fall"] == pytest.approx(metrics["validation_loss_keywords"] - metrics["validation_loss"])
    assert metrics["validation_fall"] > 0


def test_a_training_that_breaks_off_goes_on_to_the_same_weights(tools: PmgTools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole_training, expected, metrics = train(tools)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "broken"))
    whole = SoftTraining.take_step

    def break_off(self, step):
        if step == 3:
            raise KeyboardInterrupt
        return whole(self, step)

    monkeypatch.setattr(SoftTraining, "take_step", break_off)
    with pytest.raises(KeyboardInterrupt):
        train(tools)
    monkeypatch.setattr(SoftTraining, "take_step", whole)
    training, resumed, again = train(tools)
    assert again == metrics
    assert resumed.curves == expected.curves
    for name, value in whole_training.name_tensors().items():
        assert torch.equal(training.name_tensors()[name], value)
    assert resumed.seconds > 0


def test_a_finished_training_is_read_back_with_its_seconds(tools: PmgTools, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, _ = train(tools)
    monkeypatch.setattr(SoftTraining, "take_step", lambda *_: pytest.fail("it is finished"))
    _, second, _ = train(tools)
    assert second.seconds == first.seconds


def test_what_is_said_of_an_item_that_is_only_read_decides_as_well(tools: PmgTools) -> None:
    training_set = make_training_set()
    del training_set.latents["i1"]  # read, but never drawn
    training, _, _ = train(tools, training_set=training_set)
    words = replace(training_set.words, captions={**training_set.words.captions, "i1": "another"})
    other, _, _ = train(tools, training_set=replace(training_set, words=words))
    assert not torch.equal(training.soft.vectors, other.soft.vectors)


def test_soft_embeddings_of_cases_are_stored_by_weights_and_history(tools: PmgTools, monkeypatch: pytest.MonkeyPatch) -> None:
    training_set = make_training_set()
    training, _, _ = train(tools, training_set=training_set)
    histories = {case.case_id: case.history for case in training_set.train}
    soft_of = compute_soft(histories, training_set.words, CONFIG, training.soft, tools, identity="r")
    assert {len(soft) for soft in soft_of.values()} == {CONFIG.num_soft * TOKEN_DIM}
    assert len({soft.tobytes() for soft in soft_of.values()}) == len(histories)
    monkeypatch.setattr(type(training.soft), "forward", lambda *_: pytest.fail("they are stored"))
    again = compute_soft(histories, training_set.words, CONFIG, training.soft, tools, identity="r")
    assert all((again[case_id] == soft).all() for case_id, soft in soft_of.items())
