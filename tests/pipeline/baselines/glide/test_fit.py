"""Tuning GLIDE's base model. Run: `python -m pytest tests/pipeline/baselines/glide/test_fit.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.baselines.glide.fit import GlideTraining, TextedPicture
from pipeline.models.glide.model import Glide, load_glide
from pipeline.models.glide.sampling import build_ancestral, compute_alphas
from tests import configs
from tests.tiny_glide import SMALL, save_tiny_glide

TUNING = replace(configs.GLIDE.tuning, dropped_texts=0.0)
PICTURES = [
    TextedPicture(f"i{index}", torch.randint(256, (3, SMALL, SMALL), generator=torch.Generator().manual_seed(index), dtype=torch.uint8), "hammer")
    for index in range(3)
]


@pytest.fixture
def glide(tmp_path: Path) -> Glide:
    return load_glide(str(save_tiny_glide(tmp_path / "glide")))


def test_the_loss_is_that_of_the_noise_which_diffusers_adds(glide: Glide, monkeypatch: pytest.MonkeyPatch) -> None:
    training, seen = GlideTraining(PICTURES, PICTURES, TUNING, glide, seed=1), []
    scheduler = build_ancestral(compute_alphas("squaredcos_cap_v2"), range(1000))

    def answer(noisy: torch.Tensor, timesteps: torch.Tensor, text: object) -> torch.Tensor:
        seen.append((noisy, timesteps))
        return torch.zeros(len(noisy), 6, SMALL, SMALL)

    monkeypatch.setattr(glide.base, "forward", answer)
    losses = training.compute_losses(PICTURES, ["hammer"] * 3, name="0")
    (noisy, timesteps) = seen[0]
    pixels = torch.stack([picture.pixels_3hw for picture in PICTURES]).float() / 127.5 - 1
    alpha = scheduler.alphas_cumprod[timesteps][:, None, None, None].float()
    noise = (noisy - alpha.sqrt() * pixels) / (1 - alpha).sqrt()
    assert losses.tolist() == pytest.approx(noise.square().mean(dim=(1, 2, 3)).tolist(), rel=1e-4)
    assert torch.allclose(scheduler.add_noise(pixels, noise, timesteps), noisy, atol=1e-5)
    assert 0.7 < noise.square().mean() < 1.3
    assert len(set(timesteps.tolist())) == 3
    again = training.compute_losses(PICTURES, ["hammer"] * 3, name="0")
    assert again.equal(losses)
    assert not training.compute_losses(PICTURES, ["hammer"] * 3, name="1").equal(losses)


def test_all_of_the_base_model_learns_and_the_upsampler_stays(glide: Glide) -> None:
    before = {name: value.clone() for name, value in glide.base.state_dict().items()}
    upsampler = {name: value.clone() for name, value in glide.upsampler.state_dict().items()}
    training = GlideTraining(PICTURES, PICTURES, TUNING, glide, seed=1)
    row = training.take_step(0)
    assert row["loss"] > 0
    same = {name for name, value in training.name_tensors().items() if value.equal(before[name])}
    assert not same
    assert all(value.equal(upsampler[name]) for name, value in glide.upsampler.state_dict().items())


def test_dropped_texts_leave_the_empty_text(glide: Glide, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = glide.read_text
    monkeypatch.setattr(glide, "read_text", lambda model, texts: asked.extend(texts) or read(model, texts))
    for share, wanted in ((1.0, {""}), (0.0, {"hammer"})):
        asked.clear()
        GlideTraining(PICTURES, PICTURES, replace(TUNING, dropped_texts=share), glide, seed=1).take_step(0)
        assert set(asked) == wanted
    asked.clear()
    GlideTraining(PICTURES, PICTURES, replace(TUNING, dropped_texts=1.0), glide, seed=1).validate()
    assert asked == ["hammer"] * 3
