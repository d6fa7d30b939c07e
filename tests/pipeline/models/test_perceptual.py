"""Perceptual distances on random weights. Run: python -m pytest tests/pipeline/models/test_perceptual.py -q"""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.models.perceptual import Features, load_perceptual, wrap_lpips

ARCHITECTURE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def backbone_dir(tmp_path_factory):
    import timm

    folder = tmp_path_factory.mktemp("perceptual")
    torch.manual_seed(0)
    trunk = timm.create_model(ARCHITECTURE, features_only=True, pretrained=False)
    save_file(trunk.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": ARCHITECTURE, "mean": [0.5] * 3, "std": [0.5] * 3}))
    return folder


def make_images(num: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(num, 64, 64, 3), dtype=np.uint8)


def test_a_metric_that_is_not_lpips_has_another_name(backbone_dir):
    assert load_perceptual(backbone_dir).name == "effnet"


def test_distance_is_zero_for_equal_images_symmetric_and_positive_otherwise(backbone_dir):
    model = load_perceptual(backbone_dir)
    features = model.compute_features(make_images(3))
    assert len(features.layers) == 5
    forth = model.compute_distances(features.select([0, 1, 2]), features.select([0, 2, 1]))
    assert forth[0] == 0
    assert forth[1] == forth[2] > 0


def test_features_computed_once_serve_one_image_against_many(backbone_dir):
    model = load_perceptual(backbone_dir)
    images = make_images(4)
    features = Features.stack([model.compute_features(images[:2]), model.compute_features(images[2:])])
    many = model.compute_distances(features.select([0]), features.select([1, 2, 3]))
    single = [float(model.compute_distances(features.select([0]), features.select([i]))) for i in (1, 2, 3)]
    assert many.tolist() == pytest.approx(single)


def test_weights_that_do_not_fit_are_refused(backbone_dir, tmp_path):
    (tmp_path / "config.json").write_text((backbone_dir / "config.json").read_text())
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        load_perceptual(tmp_path)
    save_file({"wrong": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit tf_efficientnet_lite0"):
        load_perceptual(tmp_path)


def test_distance_equals_the_lpips_package_on_a_random_trunk():
    lpips = pytest.importorskip("lpips")
    torch.manual_seed(0)
    oracle = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    model = wrap_lpips(oracle, device=torch.device("cpu"))
    images = make_images(2)
    features = model.compute_features(images)
    found = model.compute_distances(features.select([0]), features.select([1]))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert model.name == "lpips"
    assert found.item() == pytest.approx(oracle(pixels[:1], pixels[1:]).item(), rel=1e-5)


def test_missing_lpips_package_is_explained_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ValueError, match="`lpips` is not installed: `pip install lpips`"):
        load_perceptual("lpips/vgg")
    with pytest.raises(ValueError, match="must be one of: alex, vgg, squeeze"):
        load_perceptual("lpips/resnet")
