"""The second ranker's image encoder on random weights. Run: python -m pytest tests/pipeline/models/test_backbone.py"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.models.backbone import ENCODER_SIZE, BackboneEncoder, is_backbone, load_backbone
from pipeline.models.encoders import ClipEncoder, VitEncoder, load_visual
from tests.tiny_encoders import save_tiny_backbone, save_tiny_clip, save_tiny_vit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone"))


def make_images(num: int, size: int = 64) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, size=(num, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(image) for image in pixels]


def test_a_vector_holds_the_mean_of_every_stages_map_each_of_the_same_length(folder: Path) -> None:
    backbone = load_backbone(folder, device=torch.device("cpu"))
    encoder = BackboneEncoder(backbone)
    vector_D = encoder.encode_images(make_images(1, 128))[0]
    pixel_BCHW = torch.from_numpy(np.asarray(make_images(1, 128)[0]).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        maps = backbone.trunk((pixel_BCHW - 0.5) / 0.5)
    assert encoder.dim == sum(layer.shape[1] for layer in maps) == 16 + 24 + 40 + 112 + 320
    start = 0
    for layer in maps:
        mean_C = layer[0].mean(dim=(1, 2))
        part_C = vector_D[start : start + len(mean_C)]
        torch.testing.assert_close(part_C, mean_C / mean_C.norm() / len(maps) ** 0.5)
        start += len(mean_C)


def test_vectors_are_unit_float32_rows_whatever_the_size_and_the_batch(folder: Path) -> None:
    encoder = load_visual(str(folder))
    images = [*make_images(2), *make_images(1, 16), Image.new("RGB", (300, 20), "red")]
    vector_BD = encoder.encode_images(images)
    assert vector_BD.dtype == torch.float32
    torch.testing.assert_close(vector_BD.norm(dim=1), torch.ones(4))
    # batches may take other kernels: the last float digits differ
    torch.testing.assert_close(encoder.encode_images(images[1:2]), vector_BD[1:2], rtol=0, atol=1e-5)
    assert encoder.encode_images([]).shape == (0, encoder.dim)


def test_the_weights_are_frozen(folder: Path) -> None:
    backbone = load_backbone(folder, device=torch.device("cpu"))
    assert not any(weight.requires_grad for weight in backbone.trunk.parameters())
    assert not backbone.trunk.training


def test_an_image_encoder_may_be_a_backbone_a_clip_or_a_vit(folder: Path, tmp_path: Path) -> None:
    clip, vit = save_tiny_clip(tmp_path / "clip"), save_tiny_vit(tmp_path / "vit")
    assert [is_backbone(str(path)) for path in (folder, clip, vit, tmp_path)] == [True, False, False, False]
    assert isinstance(load_visual(str(folder)), BackboneEncoder)
    assert isinstance(load_visual(str(clip)), ClipEncoder)
    assert isinstance(load_visual(str(vit)), VitEncoder)


@pytest.mark.parametrize("save", [save_tiny_backbone, save_tiny_clip, save_tiny_vit])
def test_what_is_seen_with_a_gradient_is_what_is_encoded(save: Callable[[Path], Path], tmp_path: Path) -> None:
    encoder = load_visual(str(save(tmp_path / "model")))
    side = {BackboneEncoder: ENCODER_SIZE}.get(type(encoder)) or measure_side(encoder)
    pixels = np.random.default_rng(0).integers(0, 256, size=(2, side, side, 3), dtype=np.uint8)
    image = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).requires_grad_()
    seen = encoder.see_pixels(image)
    torch.testing.assert_close(seen.detach(), encoder.encode_images([Image.fromarray(array) for array in pixels]), atol=2e-3, rtol=0)
    assert torch.autograd.grad(seen[:, 0].sum(), [image])[0].abs().max() > 0


def measure_side(encoder: ClipEncoder | VitEncoder) -> int:
    """Return the side of the images that an encoder takes without resizing."""
    side = encoder._model.visual.image_size if isinstance(encoder, ClipEncoder) else encoder._model.config.image_size
    return side if isinstance(side, int) else side[0]
