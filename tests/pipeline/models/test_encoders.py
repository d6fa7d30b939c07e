"""CLIP and ViT saved in the hub's formats and loaded through the encoders. Run: `python -m pytest tests/pipeline/models/test_encoders.py`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline.models import encoders
from pipeline.models.encoders import ClipEncoder, VitEncoder, build_clip_request, is_clip, load_clip, load_visual
from pipeline.models.references import parse_dtype, split_revision
from tests.tiny_encoders import CLIP_DIM, TEXT_WIDTH, save_tiny_clip, save_tiny_hf_clip, save_tiny_vit

TEXTS = ["a red dog", "a cat on the car", "sky"]
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)


@pytest.fixture(scope="module")
def native_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_hf_clip(tmp_path_factory.mktemp("hf"))


def draw_noise(count: int, size: int = 16) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)) for _ in range(count)]


def normalize(feature_BD: torch.Tensor) -> torch.Tensor:
    return feature_BD / feature_BD.pow(2).sum(dim=1, keepdim=True).sqrt()


@torch.no_grad()
def test_native_clip_features_equal_those_of_a_model_built_by_hand(native_folder: Path) -> None:
    encoder = load_clip(str(native_folder))
    config = open_clip.CLIP(
        embed_dim=CLIP_DIM,
        vision_cfg={"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": TEXT_WIDTH, "heads": 2, "layers": 1},
    ).eval()
    config.load_state_dict(load_file(native_folder / "open_clip_model.safetensors"))
    images = draw_noise(2)
    pixel_BCHW = torch.stack([(torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - MEAN) / STD for image in images])
    torch.testing.assert_close(encoder.encode_images(images), normalize(config.visual(pixel_BCHW)))
    tokens = open_clip.tokenize(TEXTS)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), normalize(config.encode_text(tokens)))


@pytest.mark.parametrize("kind", ["native", "hf"])
def test_clip_features_are_unit_float32_rows_independent_of_their_batch(kind: str, native_folder: Path, hf_folder: Path) -> None:
    encoder = load_clip(str(native_folder if kind == "native" else hf_folder))
    images = draw_noise(3, size=40)
    for together, alone in (
        (encoder.encode_images(images), torch.cat([encoder.encode_images([image]) for image in images])),
        (encoder.encode_texts(TEXTS), torch.cat([encoder.encode_texts([text]) for text in TEXTS])),
    ):
        assert (together.shape, together.dtype, encoder.dim) == ((3, CLIP_DIM), torch.float32, CLIP_DIM)
        torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(together, alone)
        assert (together[0] - together[1]).abs().max() > 1e-3
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, CLIP_DIM)


def test_a_text_that_repeats_is_encoded_once(hf_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_clip(str(hf_folder))
    read: list[int] = []
    compute = encoder._model.encode_text
    monkeypatch.setattr(encoder._model, "encode_text", lambda token_BT: (read.append(len(token_BT)), compute(token_BT))[1])
    vectors = encoder.encode_texts(["sky", "a red dog", "sky", "sky"])
    assert read == [2]
    torch.testing.assert_close(vectors, torch.cat([encoder.encode_texts([text]) for text in ("sky", "a red dog", "sky", "sky")]))


def test_a_long_text_is_cut_instead_of_failing(native_folder: Path, hf_folder: Path) -> None:
    for folder in (native_folder, hf_folder):
        assert load_clip(str(folder)).encode_texts(["red dog " * 500]).shape == (1, CLIP_DIM)


@torch.no_grad()
def test_projecting_pooled_states_of_a_native_tower_gives_its_text_features(native_folder: Path) -> None:
    encoder = load_clip(str(native_folder))
    model = encoder._model
    tokens = open_clip.tokenize(TEXTS)
    states = model.transformer(model.token_embedding(tokens) + model.positional_embedding, attn_mask=model.attn_mask)
    pooled_BH = model.ln_final(states)[torch.arange(3), tokens.argmax(dim=1)]
    torch.testing.assert_close(normalize(encoder.project_text_states(pooled_BH)), encoder.encode_texts(TEXTS))


@pytest.mark.parametrize("projection", ["linear", "mlp"])
@torch.no_grad()
def test_projecting_pooled_states_of_a_transformers_tower_gives_its_text_features(projection: str, tmp_path: Path) -> None:
    encoder = load_clip(str(save_tiny_hf_clip(tmp_path, projection=projection, tower="text")))
    model = encoder._model
    tokens = encoder._tokenizer(TEXTS)
    mask = tokens != 1
    states = model.text.transformer(input_ids=tokens, attention_mask=mask).last_hidden_state
    pooled_BH = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    torch.testing.assert_close(normalize(encoder.project_text_states(pooled_BH)), encoder.encode_texts(TEXTS))


def test_the_projection_is_frozen_but_differentiable_and_refuses_other_widths(native_folder: Path, hf_folder: Path) -> None:
    for folder in (native_folder, hf_folder):
        encoder = load_clip(str(folder))
        states_BH = torch.randn(2, TEXT_WIDTH, requires_grad=True)
        encoder.project_text_states(states_BH).sum().backward()
        assert states_BH.grad is not None
        assert states_BH.grad.abs().sum() > 0
        assert not any(parameter.requires_grad for parameter in encoder._model.parameters())
        with pytest.raises(ValueError, match=f"takes states of width {TEXT_WIDTH}, but these have 5"):
            encoder.project_text_states(torch.zeros(1, 5))


def test_a_folder_with_a_relative_text_tower_can_be_moved(hf_folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(hf_folder, tmp_path / "elsewhere")
    assert torch.equal(load_clip(str(moved)).encode_texts(TEXTS), load_clip(str(hf_folder)).encode_texts(TEXTS))


@torch.no_grad()
def test_vit_features_are_the_normalised_cls_states(tmp_path: Path) -> None:
    from transformers import ViTModel

    folder = save_tiny_vit(tmp_path)
    encoder = load_visual(str(folder))
    assert isinstance(encoder, VitEncoder)
    images = draw_noise(3)
    pixel_BCHW = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1 for image in images])
    expected = normalize(ViTModel.from_pretrained(folder).eval()(pixel_values=pixel_BCHW).last_hidden_state[:, 0])
    torch.testing.assert_close(encoder.encode_images(images), expected)
    assert encoder.encode_images([]).shape == (0, encoder.dim)


def test_a_clip_folder_serves_as_visual_encoder(native_folder: Path) -> None:
    assert isinstance(load_visual(str(native_folder)), ClipEncoder)


def test_a_folder_without_weights_is_refused_instead_of_used_with_random_ones(native_folder: Path, tmp_path: Path) -> None:
    shutil.copy(native_folder / "open_clip_config.json", tmp_path)
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_clip(str(tmp_path))
    with pytest.raises(ValueError, match=r"has no open_clip_config\.json"):
        load_clip(str(tmp_path.parent))


def test_references_name_folders_hub_ids_and_open_clip_tags() -> None:
    assert build_clip_request("ViT-L-14/openai") == ("ViT-L-14", {"pretrained": "openai", "force_quick_gelu": True})
    assert build_clip_request("ViT-H-14/laion2b_s32b_b79k")[1]["force_quick_gelu"] is False
    assert build_clip_request("org/name") == build_clip_request("hf-hub:org/name") == ("hf-hub:org/name", {})
    assert [is_clip(name) for name in ("ViT-L-14/openai", "hf-hub:org/name", "google/vit-base-patch16-224-in21k")] == [True, True, False]
    with pytest.raises(ValueError, match="knows no weights 'nope' for ViT-L-14"):
        build_clip_request("ViT-L-14/nope")
    with pytest.raises(ValueError, match="neither a folder"):
        build_clip_request("nothing")


def test_a_pinned_hub_id_becomes_the_snapshots_folder(native_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def fetch(name: str, revision: str) -> str:
        asked.append((name, revision))
        return str(native_folder)

    monkeypatch.setattr(encoders, "fetch_snapshot", fetch)
    assert build_clip_request("hf-hub:org/name@0123abc") == (f"local-dir:{native_folder}", {})
    assert asked == [("org/name", "0123abc")]


def test_a_revision_is_split_off_and_half_formats_are_for_gpus() -> None:
    assert split_revision("org/name@0123abc") == ("org/name", "0123abc")
    assert split_revision("org/name") == ("org/name", None)
    assert split_revision("/home/me@work/model") == ("/home/me@work/model", None)
    assert parse_dtype("float16", torch.device("cpu")) == torch.float32
    assert parse_dtype("float16", torch.device("cuda")) == torch.float16
    with pytest.raises(ValueError, match="float32, float16, bfloat16"):
        parse_dtype("half", torch.device("cpu"))


def test_a_half_format_computes_close_to_float32(native_folder: Path, hf_folder: Path) -> None:
    for folder in (native_folder, hf_folder):
        exact, half = load_clip(str(folder)), load_clip(str(folder), dtype=torch.bfloat16)
        # bfloat16 keeps 8 bits, so two decimals
        torch.testing.assert_close(half.encode_texts(TEXTS), exact.encode_texts(TEXTS), atol=0.05, rtol=0)
        assert half.encode_images(draw_noise(1)).dtype == torch.float32
    assert encoders.to_unit_rows(torch.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]
