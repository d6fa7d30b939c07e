"""Image metrics against scikit-image, the lpips package and by hand. Run: python -m pytest tests/pipeline/metrics -q"""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from pipeline.metrics.image import (
    compute_cosine_score,
    compute_history_mean,
    compute_lpips,
    compute_moments,
    compute_ssim,
    compute_ssim_from_moments,
    normalize_channels,
)


def make_images(num: int, *, size: tuple[int, int] = (40, 33), seed: int = 0) -> np.ndarray:
    """Smooth noise in [0, 255], (num, H, W, 3) float64."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, 255, size=(num, *size, 3))
    return (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2)) / 3


def to_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def compute_skimage_ssim(first: np.ndarray, second: np.ndarray, data_range: float) -> float:
    """SSIM over whole windows only: scikit-image's map, cropped by the window's radius, mean over channels."""
    _, full = structural_similarity(
        first,
        second,
        data_range=data_range,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(full[5:-5, 5:-5].mean())


def test_ssim_equals_scikit_image_on_whole_windows():
    first, second = make_images(3, seed=1), make_images(3, seed=2)
    second[1] = 0.7 * first[1] + 0.3 * second[1]
    found = compute_ssim(to_tensor(first), to_tensor(second), data_range=255)
    oracle = [compute_skimage_ssim(a, b, 255) for a, b in zip(first, second, strict=True)]
    assert found.tolist() == pytest.approx(oracle, abs=1e-6)


def test_ssim_in_float32_agrees_with_float64():
    first, second = to_tensor(make_images(2, seed=1)), to_tensor(make_images(2, seed=2))
    exact = compute_ssim(first, second, data_range=255)
    single = compute_ssim(first.float(), second.float(), data_range=255)
    assert single.tolist() == pytest.approx(exact.tolist(), abs=1e-4)  # variances are differences of squares up to 65,025


def test_ssim_of_an_image_with_itself_is_1_and_scale_does_not_matter():
    image, other = to_tensor(make_images(1, seed=3)), to_tensor(make_images(1, seed=4))
    assert compute_ssim(image, image, data_range=255).item() == pytest.approx(1.0)
    small = compute_ssim(image / 255, other / 255, data_range=1.0)
    assert small.item() == pytest.approx(compute_ssim(image, other, data_range=255).item(), abs=1e-9)


def test_ssim_of_two_flat_images_is_the_luminance_term():
    first, second = torch.full((1, 3, 16, 16), 0.5).double(), torch.full((1, 3, 16, 16), 1.0).double()
    expected = (2 * 0.5 * 1.0 + 1e-4) / (0.25 + 1.0 + 1e-4)
    assert compute_ssim(first, second, data_range=1.0).item() == pytest.approx(expected, abs=1e-9)


def test_moments_computed_once_serve_many_pairs():
    images = to_tensor(make_images(4, seed=5))
    moments = compute_moments(images)
    one_to_many = compute_ssim_from_moments(moments.select([0]), moments.select([1, 2, 3]), data_range=255)
    pairs = compute_ssim(images[[0, 0, 0]], images[1:], data_range=255)
    assert one_to_many.tolist() == pytest.approx(pairs.tolist(), abs=1e-12)


def test_ssim_refuses_images_smaller_than_its_window_and_different_sizes():
    with pytest.raises(ValueError, match="at least 11 x 11"):
        compute_ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20), data_range=1.0)
    with pytest.raises(ValueError, match="images of one size"):
        compute_ssim(torch.zeros(1, 3, 12, 12), torch.zeros(1, 3, 12, 13), data_range=1.0)


def test_channel_vectors_have_length_1():
    feature = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert normalize_channels(feature).flatten().tolist() == pytest.approx([0.6, 0.8])


def test_lpips_formula_worked_by_hand():
    # Layer 1, one position: (1,0) against (0,1): squared differences 1 + 1. Layer 2, two positions: distances 0 and 2, mean 1.
    first = [torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([[1.0, 0.0], [1.0, 0.0]]).T.reshape(1, 2, 1, 2)]
    second = [torch.tensor([0.0, 1.0]).view(1, 2, 1, 1), torch.tensor([[1.0, 0.0], [0.0, 1.0]]).T.reshape(1, 2, 1, 2)]
    assert compute_lpips(first, second).tolist() == pytest.approx([3.0])
    weights = [torch.tensor([0.5, 0.25]), torch.tensor([1.0, 0.0])]
    assert compute_lpips(first, second, weights).tolist() == pytest.approx([0.75 + 0.5])


def test_lpips_refuses_sides_with_different_layers():
    with pytest.raises(ValueError, match="as many layers"):
        compute_lpips([torch.zeros(1, 2, 1, 1)], [])


def test_cosine_score_is_times_100_and_not_clamped():
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 4.0]])
    second = torch.tensor([[-2.0, 0.0], [0.0, 1.0], [4.0, 3.0]])
    assert compute_cosine_score(first, second).tolist() == pytest.approx([-100.0, 0.0, 96.0])


def test_mean_over_an_empty_history_is_none():
    assert compute_history_mean(torch.tensor([])) is None
    assert compute_history_mean(torch.tensor([1.0, 2.0, 6.0])) == pytest.approx(3.0)
