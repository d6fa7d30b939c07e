"""The official IP-Adapter, in a tiny folder of its layout, against diffusers. Run: python -m pytest tests/pipeline/models/test_ip_adapter.py"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.models.diffusion import load_diffusion
from pipeline.models.ip_adapter import AdaptedDiffusion, load_adapted_diffusion
from tests.tiny_models import save_tiny_ip_adapter, save_tiny_stable_diffusion

STEPS, GUIDANCE = 3, 4.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("adapted")
    diffusion = save_tiny_stable_diffusion(root / "sd")
    return save_tiny_ip_adapter(root / "adapter", diffusion), diffusion


@pytest.fixture(scope="module")
def adapted(folders: tuple[Path, Path]) -> AdaptedDiffusion:
    return load(folders)


def load(folders: tuple[Path, Path], **options: object) -> AdaptedDiffusion:
    adapter, diffusion = folders
    return load_adapted_diffusion(str(adapter), str(diffusion), **{"scale": 0.6, "scheduler": "ddim", **options})


def make_generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def make_pictures(count: int) -> list[Image.Image]:
    values = np.random.default_rng(0).integers(0, 256, size=(count, 16, 16, 3), dtype=np.uint8)
    return [Image.fromarray(value) for value in values]


def draw(adapted: AdaptedDiffusion, embedding_BE: torch.Tensor, *, guidance_scale: float = GUIDANCE) -> np.ndarray:
    states_BKD, _ = adapted.encode_prompts(["dog", "cat"])
    with adapted.follow(embedding_BE):
        return adapted.draw(states_BKD, generators=make_generators(1, 2), steps=STEPS, guidance_scale=guidance_scale)


@pytest.mark.parametrize("scale", [0.6, {"down": {"block_1": [1.0]}, "up": {"block_0": [0.0, 1.0]}}])
@pytest.mark.parametrize("guidance_scale", [GUIDANCE, 1.0])
def test_images_equal_those_of_the_public_pipeline(folders: tuple[Path, Path], scale: object, guidance_scale: float) -> None:
    adapted, pictures = load(folders, scale=scale), make_pictures(2)
    embedding_BE = adapted.encode_pictures(pictures)
    public = StableDiffusionPipeline.from_pretrained(folders[1], safety_checker=None, requires_safety_checker=False)
    public.load_ip_adapter(str(folders[0]), subfolder="models", weight_name="ip-adapter_sd15.safetensors")
    public.set_ip_adapter_scale(scale)
    public.scheduler = type(adapted.pipeline.scheduler).from_config(adapted.pipeline.scheduler.config)
    own = public.image_encoder(public.feature_extractor(pictures, return_tensors="pt").pixel_values).image_embeds
    torch.testing.assert_close(embedding_BE, own.detach())
    for row, text in enumerate(("dog", "cat")):
        embeds = own[row : row + 1, None].detach()
        expected = public(
            text,
            ip_adapter_image_embeds=[torch.cat([torch.zeros_like(embeds), embeds]) if guidance_scale > 1 else embeds],
            num_inference_steps=STEPS,
            guidance_scale=guidance_scale,
            generator=torch.Generator().manual_seed(row + 1),
            output_type="np",
        ).images[0]
        drawn = draw(adapted, embedding_BE, guidance_scale=guidance_scale)[row]
        assert np.abs(drawn.astype(int) - expected * 255).max() <= 1.01


def test_pictures_change_what_is_drawn_and_each_case_follows_its_own(adapted: AdaptedDiffusion) -> None:
    embedding_BE = adapted.encode_pictures(make_pictures(2)) * 10
    first, swapped = draw(adapted, embedding_BE), draw(adapted, embedding_BE.flip(0))
    assert (first[0] != swapped[0]).any()
    alone = draw(adapted, torch.stack([embedding_BE[0], embedding_BE[0]]))
    np.testing.assert_array_equal(first[0], alone[0])


def test_a_pictures_embedding_does_not_depend_on_the_others(adapted: AdaptedDiffusion) -> None:
    pictures = make_pictures(20)
    assert torch.equal(adapted.encode_pictures(pictures)[17], adapted.encode_pictures(pictures[17:18])[0])


def test_a_scale_of_zero_is_plain_stable_diffusion(folders: tuple[Path, Path]) -> None:
    adapted, plain = load(folders, scale=0.0), load_diffusion(str(folders[1]), scheduler="ddim")
    expected = plain.draw(plain.encode_prompts(["dog", "cat"])[0], generators=make_generators(1, 2), steps=STEPS, guidance_scale=GUIDANCE)
    assert np.abs(draw(adapted, adapted.encode_pictures(make_pictures(2))).astype(int) - expected).max() <= 1


def test_nothing_is_drawn_without_pictures_and_nothing_stays_in_the_u_net(adapted: AdaptedDiffusion) -> None:
    draw(adapted, adapted.encode_pictures(make_pictures(2)))
    assert "forward" not in vars(adapted.pipeline.unet)
    with pytest.raises(ValueError, match="draw within `follow`"):
        adapted.draw(adapted.encode_prompts(["dog"])[0], generators=make_generators(1), steps=STEPS, guidance_scale=GUIDANCE)


def test_what_is_no_adapter_or_does_not_fit_is_one_sentence(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^The image prompt adapter '[^']*' cannot be loaded: there is no file models/ip-adapter[^\n]*$"):
        load((folders[1], folders[1]))
    wide = tmp_path / "wide"
    shutil.copytree(folders[0], wide)
    path = wide / "models" / "ip-adapter_sd15.safetensors"
    save_file({name: value.repeat_interleave(2, dim=0) if "_ip." in name else value for name, value in load_file(path).items()}, path)
    with pytest.raises(ValueError, match=r"^The image prompt adapter '[^']*' cannot be loaded: [^\n]*$"):
        load((wide, folders[1]))
    short = tmp_path / "short"
    shutil.copytree(folders[0], short)
    (short / "models" / "image_encoder" / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"^The image prompt adapter '[^']*' cannot be loaded: [^\n]*$"):
        load((short, folders[1]))
