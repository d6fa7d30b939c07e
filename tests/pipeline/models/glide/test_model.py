"""Loading GLIDE's official files, and drawing. Run: python -m pytest tests/pipeline/models/glide/test_model.py"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.models.diffusion import NotFiniteError
from pipeline.models.glide.config import GlideSampling
from pipeline.models.glide.model import Glide, load_glide, load_glide_budget
from tests.tiny_glide import LARGE, NUM_TOKENS, build_tiny_unet, build_vocabulary, save_tiny_glide

SAMPLING = GlideSampling(steps=3, guidance_scale=3.0, upsample_steps=2, upsample_temperature=0.997)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_glide(tmp_path_factory.mktemp("glide"))


@pytest.fixture(scope="module")
def glide(folder: Path) -> Glide:
    return load_glide(str(folder))


def draw(glide: Glide, prompts: list[str], seeds: list[int], sampling: GlideSampling = SAMPLING) -> np.ndarray:
    return glide.draw(prompts, generators=[torch.Generator().manual_seed(seed) for seed in seeds], sampling=sampling)


def test_a_picture_follows_from_its_prompt_and_its_generator_alone(glide: Glide) -> None:
    images = draw(glide, ["hammer", "hammer", "neon hammer"], [1, 2, 1])
    assert images.shape == (3, LARGE, LARGE, 3)
    assert images.dtype == np.uint8
    alone = draw(glide, ["hammer"], [2])[0]
    assert np.abs(alone.astype(int) - images[1]).max() <= 1
    assert np.abs(images[0].astype(int) - images[1]).mean() > 5
    assert np.abs(images[0].astype(int) - images[2]).mean() > 1
    with pytest.raises(ValueError, match="2 prompts need 2 generators, not 1"):
        draw(glide, ["hammer", "nail"], [1])


def test_both_models_are_told_the_trainings_own_numbers_of_the_steps(glide: Glide) -> None:
    told: dict[str, list[list[int]]] = {"base": [], "upsampler": []}
    hooks = [getattr(glide, name).register_forward_pre_hook(lambda module, given, name=name: told[name].append(given[1].tolist())) for name in told]
    draw(glide, ["hammer"], [1])
    draw(glide, ["hammer"], [1], GlideSampling(steps=1, guidance_scale=3.0, upsample_steps="fast27", upsample_temperature=1.0))
    for hook in hooks:
        hook.remove()
    assert told["base"] == [[999, 999], [500, 500], [0, 0], [0, 0]]  # with the text and without it
    assert [steps[0] for steps in told["upsampler"]][:5] == [999, 0, 997, 800, 799]
    assert len(told["upsampler"]) == 29


def test_the_upsampler_starts_from_cooled_noise_and_a_picture_of_256_levels(glide: Glide) -> None:
    seen = []
    hook = glide.upsampler.register_forward_pre_hook(lambda module, given: seen.append(given))
    draw(glide, ["hammer"], [1])
    hook.remove()
    generator = torch.Generator().manual_seed(1)
    small = (3, 8, 8)
    torch.randn(small, generator=generator)
    for _ in range(2):  # the base model's steps but the last
        torch.randn((1, *small), generator=generator)
    assert torch.allclose(seen[0][0][0], 0.997 * torch.randn(3, LARGE, LARGE, generator=generator))
    levels = (seen[0][3] + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)


def test_an_empty_prompt_is_what_guidance_leads_away_from(glide: Glide) -> None:
    """Then both halves see the same, and the scale changes nothing."""
    far = GlideSampling(steps=3, guidance_scale=50.0, upsample_steps=2, upsample_temperature=0.997)
    assert np.abs(draw(glide, [""], [1]).astype(int) - draw(glide, [""], [1], far)).max() <= 1
    assert np.abs(draw(glide, ["hammer"], [1]).astype(int) - draw(glide, ["hammer"], [1], far)).max() > 1


def test_half_precision_weights_are_computed_with_as_float32(tmp_path: Path) -> None:
    base = load_glide(str(save_tiny_glide(tmp_path, dtype=torch.float16))).base
    assert {value.dtype for value in base.state_dict().values()} == {torch.float32}
    assert torch.equal(base.positional_embedding, build_tiny_unet("base").positional_embedding.half().float())


def test_pictures_that_are_not_finite_are_named(folder: Path) -> None:
    glide = load_glide(str(folder))
    glide.upsampler.out[2].bias[0] = torch.nan
    with pytest.raises(NotFiniteError, match="1 of 1 drawn images"):
        draw(glide, ["hammer"], [1])


def test_how_much_of_a_text_is_read(folder: Path) -> None:
    budget = load_glide_budget(str(folder))
    assert budget.reads("hammer " * NUM_TOKENS) is False  # the last space is a token
    assert budget.reads(("hammer " * NUM_TOKENS).strip()) is True


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def test_what_is_wrong_with_the_weights_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny_glide(tmp_path)
    path, state = folder / "base.pt", build_tiny_unet("base").state_dict()

    def find_error() -> str:
        with pytest.raises(ValueError, match="The GLIDE model") as caught:
            load_glide(str(folder))
        return str(caught.value)

    torch.save({name: value for name, value in state.items() if name != "out.2.bias"}, path)
    assert "1 weights of" in (text := find_error())
    assert text.endswith("the first is out.2.bias (not there, expected (6,)).")
    torch.save({**state, "label_emb.weight": torch.zeros(2)}, path)
    assert find_error().endswith("the first is label_emb.weight ((2,), expected nothing of that name).")
    torch.save({**state, "final_ln.bias": torch.zeros(3)}, path)
    assert find_error().endswith("the first is final_ln.bias ((3,), expected (24,)).")
    torch.save([1, 2], path)
    assert find_error().endswith("holds no state dict; take the official file as it is.")
    path.write_bytes(pickle.dumps(Malicious(), protocol=2))
    assert "a pickle that asks for more" in find_error()
    assert "must not run" not in capfd.readouterr().out
    save_file(state, path.with_suffix(".safetensors"))  # takes its place
    assert load_glide(str(folder)).base.state_dict()["out.2.bias"].equal(state["out.2.bias"])
    save_file({**state, "more": torch.zeros(2)}, path.with_suffix(".safetensors"))
    assert find_error().endswith("the first is more ((2,), expected nothing of that name).")
    path.with_suffix(".safetensors").unlink()
    path.unlink()
    assert find_error().endswith("base.pt is missing; the official models have base.pt and upsample.pt.")


def test_a_vocabulary_of_another_size_is_named(tmp_path: Path) -> None:
    folder = save_tiny_glide(tmp_path)
    (folder / "encoder.json").write_text(json.dumps({**build_vocabulary(), "hamme": 263}))
    with pytest.raises(ValueError, match=r"its tokenizer knows 264 tokens and base\.pt 263, but they must be as many"):
        load_glide(str(folder))
