"""Weights as people name them: variants, folders with an @. Run: python -m pytest tests/pipeline/models/test_weight_folders.py"""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.models.diffusion import load_diffusion
from pipeline.models.encoders import load_clip, load_visual
from pipeline.models.llm import load_language_model
from pipeline.models.references import split_revision
from pipeline.weight_files import find_variant
from tests.tiny_encoders import save_tiny_clip, save_tiny_vit
from tests.tiny_models import save_tiny_stable_diffusion


def rename_weights(folder: Path, variant: str) -> None:
    for path in list(folder.rglob("*.safetensors")):
        path.rename(path.with_name(f"{path.stem}.{variant}.safetensors"))


def test_a_folder_whose_name_looks_like_a_revision_is_a_folder(copy: Path) -> None:
    assert split_revision(str(copy)) == (str(copy), None)
    assert split_revision("./gone@v2") == ("./gone@v2", None)
    assert split_revision("org/name@v2") == ("org/name", "v2")
    assert load_language_model(str(copy)).model.config.model_type


def test_a_folder_with_a_variant_alone_loads_with_the_same_weights(copy: Path, language_model: Path) -> None:
    assert find_variant(copy) is None
    rename_weights(copy, "fp16")
    assert find_variant(copy) == "fp16"
    plain, variant = load_language_model(str(language_model)).model.state_dict(), load_language_model(str(copy)).model.state_dict()
    assert plain.keys() == variant.keys()
    assert all(torch.equal(plain[name], variant[name]) for name in plain)


def test_a_pipeline_with_a_variant_alone_loads(tmp_path: Path) -> None:
    folder = save_tiny_stable_diffusion(tmp_path / "sd@fp16")
    rename_weights(folder, "fp16")
    assert load_diffusion(str(folder)).pipeline.unet.config.sample_size


def test_a_vit_with_a_variant_alone_loads(tmp_path: Path) -> None:
    folder = save_tiny_vit(tmp_path)
    rename_weights(folder, "bf16")
    assert load_visual(str(folder)).dim


def test_a_clip_with_a_variant_alone_loads_with_the_same_weights(tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path / "clip@v2")
    plain = load_clip(str(folder)).encode_texts(["dog"])
    rename_weights(folder, "fp16")
    assert torch.equal(load_clip(str(folder)).encode_texts(["dog"]), plain)


def test_a_variant_beside_the_plain_files_is_not_needed(tmp_path: Path) -> None:
    for name in (
        "unet/model.fp16.safetensors",
        "unet/model.safetensors",
        "vae/model-00001-of-00002.safetensors",
        "vae/model.fp16-00001-of-00002.safetensors",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_variant(tmp_path) is None
    (tmp_path / "unet" / "model.safetensors").unlink()
    assert find_variant(tmp_path) == "fp16"
