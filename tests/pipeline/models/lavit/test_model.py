"""LaVIT as a whole, and its official folder. Run: python -m pytest tests/pipeline/models/lavit/test_model.py"""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.models.lavit.model import Lavit, load_lavit
from pipeline.models.lavit.shape import OFFICIAL, read_shape
from pipeline.models.official_weights import read_file
from tests.tiny_lavit import NUM_PATCHES, SAMPLING, SHAPE, SIZE, save_tiny_lavit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_lavit(tmp_path_factory.mktemp("lavit") / "lavit")


@pytest.fixture(scope="module")
def lavit(folder: Path) -> Lavit:
    return load_lavit(str(folder), pixels="lowres")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "lavit"))


def draw_images(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 20, 30, 3), dtype=np.uint8)
    return [Image.fromarray(image) for image in pixels]


def seed_generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("pixels", ["lowres", "highres"])
def test_pictures_become_codes_and_codes_a_picture(folder: Path, pixels: str) -> None:
    lavit, sampling = load_lavit(str(folder), pixels=pixels), replace(SAMPLING, pixels=pixels)
    seen = lavit.read_images(draw_images(2), seed_generators(1, 2))
    assert seen[1].equal(lavit.read_images(draw_images(2)[1:], seed_generators(2))[0])
    written = lavit.write_codes(["a nail", seen[0]], torch.Generator().manual_seed(3), sampling)
    assert 0 < len(written) <= SAMPLING.max_new_tokens
    drawn = lavit.draw_codes([seen[0], written], seed_generators(4, 5), sampling)
    assert drawn.shape == (2, SIZE, SIZE, 3)
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() > 5
    again = lavit.draw_codes([seen[0], written], seed_generators(4, 5), sampling)
    assert np.array_equal(drawn, again)


def test_no_pictures_have_no_codes(lavit: Lavit) -> None:
    assert lavit.read_images([], []) == []


def test_of_too_many_pictures_the_oldest_are_not_shown(lavit: Lavit) -> None:
    """A context of 200 tokens, 12 of them for codes and one for the mark, leaves 187: 85 letters, 10 codes of the reference, 5 times 16."""
    reference, history = torch.zeros(10, dtype=torch.long), [torch.full((16,), number) for number in range(7)]
    parts = lavit.fit_prompt("a nail", reference, history, SAMPLING)
    assert [int(part[0]) for part in parts[1:-2]] == [2, 3, 4, 5, 6]
    assert len(lavit.language.number_parts(parts)) == 85 + 10 + 5 * 16
    assert len(lavit.fit_prompt("a nail", reference, history[:1], SAMPLING)) == 4
    assert lavit.fit_prompt("x" * 150, reference, history, SAMPLING) is None


def test_half_precision_computes_in_half_and_keeps_weights_whole(folder: Path, lavit: Lavit) -> None:
    half = load_lavit(str(folder), pixels="lowres", dtype=torch.bfloat16)
    assert half.vision.head.weight.dtype == half.decoder.in_proj.weight.dtype == half.pixels.vae.dtype == torch.float32
    assert half.language.model.dtype == half.pixels.unet.dtype == torch.bfloat16
    assert len(half.read_images(draw_images(2), seed_generators(1, 2))) == 2
    assert half.draw_codes([torch.tensor([1, 2])], seed_generators(1), SAMPLING).shape == (1, SIZE, SIZE, 3)


def test_files_in_half_precision_are_read_as_float32(copied: Path, lavit: Lavit) -> None:
    path = copied / "visual_tokenizer" / "eva_vitg_psz14.bin"
    torch.save({name: value.half() for name, value in torch.load(path, weights_only=True).items()}, path)
    vision = load_lavit(str(copied), pixels="lowres").vision
    assert vision.cls_token.equal(lavit.vision.cls_token.half().float())


def test_the_encoders_file_may_hold_the_vision_tower_too(copied: Path) -> None:
    weights = copied / "visual_tokenizer"
    state = torch.load(weights / "tokenizer_encoder.bin", weights_only=True)
    vision = torch.load(weights / "eva_vitg_psz14.bin", weights_only=True)
    torch.save(state | {f"encoder.{name}": value for name, value in vision.items()}, weights / "tokenizer_encoder.bin")
    assert load_lavit(str(copied), pixels="lowres").shape == SHAPE


def test_the_other_kinds_files_are_not_needed(copied: Path) -> None:
    (copied / "visual_tokenizer" / "highres_tokenizer_decoder.bin").unlink()
    shutil.rmtree(copied / "highres_pixel_decoding")
    assert load_lavit(str(copied), pixels="lowres").shape == SHAPE


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("visual_tokenizer/eva_vitg_psz14.bin", r"The visual tokenizer of LaVIT .*eva_vitg_psz14\.bin is missing; copy it from the official weights"),
        ("visual_tokenizer/tokenizer_encoder.bin", r"tokenizer_encoder\.bin is missing; copy it from the official weights"),
        ("visual_tokenizer/tokenizer_decoder.bin", r"/tokenizer_decoder\.bin is missing; copy it from the official weights"),
        ("pixel_decoding/uncond_embeddings.bin", r"The pixel decoder of LaVIT .*uncond_embeddings\.bin is missing"),
        ("pixel_decoding/unet", r"The pixel decoder of LaVIT .* cannot be loaded"),
        ("language_model", r"The language model of LaVIT .*: there is no such folder"),
    ],
)
def test_a_missing_part_is_named(copied: Path, file: str, said: str) -> None:
    shutil.rmtree(copied / file) if (copied / file).is_dir() else (copied / file).unlink()
    with pytest.raises(ValueError, match=said) as caught:
        load_lavit(str(copied), pixels="lowres")
    assert "\n" not in str(caught.value)


def change_state(path: Path, change: str) -> None:
    state = torch.load(path, weights_only=True)
    first = min(state)
    if change == "missing":
        del state[first]
    elif change == "shape":
        state[first] = state[first][:1]
    else:
        state["more"] = torch.zeros(2)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (
            "tokenizer_encoder.bin",
            "missing",
            r"1 weights .* first is causal_encoder\.blocks\.0\.mlp\.fc1\.bias \(not there, expected \(40,\)\)",
        ),
        ("tokenizer_decoder.bin", "shape", r"the first is blocks\.0\.cross_attn\.key\.bias \(\(1,\), expected \(24,\)\)"),
        ("eva_vitg_psz14.bin", "more", r"the first is more \(\(2,\), expected nothing of that name\)"),
    ],
)
def test_a_weight_that_does_not_belong_is_named(copied: Path, file: str, change: str, said: str) -> None:
    change_state(copied / "visual_tokenizer" / file, change)
    with pytest.raises(ValueError, match=said):
        load_lavit(str(copied), pixels="lowres")


def test_what_is_no_state_dict_is_refused(copied: Path) -> None:
    torch.save([torch.zeros(2)], copied / "visual_tokenizer" / "tokenizer_decoder.bin")
    with pytest.raises(ValueError, match="holds no state dict; take the official file as it is"):
        load_lavit(str(copied), pixels="lowres")


def test_a_pickle_that_asks_for_more_is_not_opened(copied: Path) -> None:
    torch.save({"weight": Path("x")}, copied / "visual_tokenizer" / "tokenizer_decoder.bin")
    with pytest.raises(ValueError, match="is no weights but a pickle that asks for more, and is not opened"):
        load_lavit(str(copied), pixels="lowres")


def test_a_file_that_unpacks_to_too_much_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "packed.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(300_000))
    assert path.stat().st_size < 1000
    with pytest.raises(ValueError, match="packed.bin holds 300,000 bytes, but 200,000 are the most that can belong there"):
        read_file(path, source="", max_bytes=200_000)


def test_the_same_tensors_in_safetensors_draw_the_same(copied: Path) -> None:
    def draw() -> np.ndarray:
        lavit = load_lavit(str(copied), pixels="lowres")
        return lavit.draw_codes([torch.tensor([1, 2])], [torch.Generator().manual_seed(0)], replace(SAMPLING, steps=2))

    before = draw()
    for path in [*(copied / "visual_tokenizer").glob("*.bin"), *copied.glob("pixel_decoding/uncond_embeddings.bin")]:
        content = torch.load(path, weights_only=True)
        save_file(content if isinstance(content, dict) else {path.stem: content}, path.with_suffix(".safetensors"))
        path.unlink()
    assert np.array_equal(draw(), before)
    (copied / "visual_tokenizer" / "tokenizer_decoder.safetensors").unlink()
    with pytest.raises(ValueError, match=r"/tokenizer_decoder\.bin is missing"):
        draw()


def test_a_folder_without_sizes_has_the_official_ones(tmp_path: Path) -> None:
    assert read_shape(tmp_path) == OFFICIAL
    assert OFFICIAL.num_patches != NUM_PATCHES


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"heads": 5}, "width is 24, but it must be a multiple of heads, 5"),
        ({"patch_size": 5}, "image_size is 16, but it must be a multiple of patch_size, 5"),
        ({"width": 18}, "width is 18, but it must be a multiple of 4"),
        ({"code": 5}, "unknown key `code`"),
    ],
)
def test_sizes_that_cannot_be_are_named(tmp_path: Path, change: dict[str, int], said: str) -> None:
    (tmp_path / "lavit.json").write_text(json.dumps(asdict(SHAPE) | change))
    with pytest.raises(ValueError, match=said):
        read_shape(tmp_path)
