"""BLIP-2 saved in the hub's format and loaded through the captioner. Run: `python -m pytest tests/pipeline/models/test_captioner.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.models.captioner import clean_caption, load_captioner
from tests.tiny_encoders import NUM_QUERIES, save_tiny_blip2, save_tiny_vit


@pytest.fixture(scope="module")
def opt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_blip2(tmp_path_factory.mktemp("opt"))


def draw_noise(count: int, size: int = 64) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)) for _ in range(count)]


def continue_greedily(folder: Path, image: Image.Image, prompt: str, num_tokens: int) -> str:
    """Decode by whole forward passes and argmax, without `generate`: an independent oracle for greedy captions."""
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    processor = Blip2Processor.from_pretrained(folder)
    model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    pixels = processor.image_processor(image, return_tensors="pt")["pixel_values"]
    given = [model.config.image_token_id] * NUM_QUERIES + processor.tokenizer(prompt)["input_ids"]
    tokens = list(given)
    for _ in range(num_tokens):
        with torch.no_grad():
            logits = model(pixel_values=pixels, input_ids=torch.tensor([tokens])).logits[0, -1]
        tokens.append(int(logits.argmax()))
        if tokens[-1] == model.config.text_config.eos_token_id:
            break
    return processor.tokenizer.decode(tokens[len(given) :], skip_special_tokens=True)


@pytest.mark.parametrize("prompt", [None, "a photo of"])
def test_greedy_captions_equal_step_by_step_decoding_and_hold_new_tokens_only(opt_folder: Path, prompt: str | None) -> None:
    images = draw_noise(6)
    captions = load_captioner(str(opt_folder)).caption(images, prompt=prompt, num_beams=1, max_new_tokens=6)
    expected = [clean_caption(continue_greedily(opt_folder, image, prompt or "", 6), prompt) for image in images]
    assert captions == expected
    assert len(set(captions)) > 1


def test_a_caption_does_not_depend_on_its_batch(opt_folder: Path) -> None:
    captioner = load_captioner(str(opt_folder))
    images = draw_noise(4)
    together = captioner.caption(images, prompt=None, num_beams=3, max_new_tokens=6)
    alone = [captioner.caption([image], prompt=None, num_beams=3, max_new_tokens=6)[0] for image in images]
    assert together == alone
    assert captioner.caption([], prompt=None, num_beams=3, max_new_tokens=6) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_formats_caption(opt_folder: Path, dtype: torch.dtype) -> None:
    captioner = load_captioner(str(opt_folder), dtype=dtype)
    kept = torch.float32 if dtype == torch.float16 else dtype  # BLIP-2 keeps its query transformer out of float16
    assert captioner._model.qformer.layernorm.weight.dtype == kept
    assert captioner._model.language_projection.weight.dtype == dtype
    assert len(captioner.caption(draw_noise(2), prompt="a photo of", num_beams=2, max_new_tokens=4)) == 2


def test_an_encoder_decoder_captioner_loads_through_the_same_path(tmp_path: Path) -> None:
    captions = load_captioner(str(save_tiny_blip2(tmp_path, decoder="t5"))).caption(draw_noise(2), prompt=None, num_beams=2, max_new_tokens=5)
    assert len(captions) == 2
    assert all(len(caption.split()) <= 5 for caption in captions)


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 40)])
def test_very_small_images_are_captioned(opt_folder: Path, size: tuple[int, int]) -> None:
    assert len(load_captioner(str(opt_folder)).caption([Image.new("RGB", size)], prompt=None, num_beams=1, max_new_tokens=3)) == 1


def test_a_folder_with_missing_weights_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_blip2(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["qformer.layernorm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 of its weights are missing.*qformer\.layernorm\.weight"):
        load_captioner(str(folder))


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it is a vit model, but it must be blip-2"):
        load_captioner(str(save_tiny_vit(tmp_path)))


@pytest.mark.parametrize(
    ("caption", "prompt", "expected"),
    [
        ("  a red\n dog ", None, "a red dog"),
        ("a photo of a dog", "a photo of", "a dog"),
        ("A Photo of: a dog", "a photo of", "a dog"),
        ("<b>a</b> & dog", None, "<b>a</b> & dog"),
        (" \n\t", "a photo of", ""),
    ],
)
def test_captions_are_cleaned(caption: str, prompt: str | None, expected: str) -> None:
    assert clean_caption(caption, prompt) == expected
