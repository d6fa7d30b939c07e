"""Look tokens from pictures. Run: python -m pytest tests/pipeline/models/test_look.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.artifacts import write_tensors
from pipeline.models.look import LookMap, LookShape, fit_prediction, load_look_map, save_look_map

SHAPE = LookShape(visual_dim=6, text_dim=5, width=7, num_tokens=3, token_dim=4)


def build_look(seed: int = 0) -> LookMap:
    torch.manual_seed(seed)
    return LookMap(SHAPE).eval()


def draw_units(*shape: int, seed: int) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@torch.no_grad()
def test_tokens_are_the_layer_norm_of_a_linear_map_of_the_weighted_mean_of_mapped_items() -> None:
    look, visual, text = build_look(), draw_units(2, 3, 6, seed=1), draw_units(2, 3, 5, seed=2)
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    tokens = look.write_tokens(look.map_items(visual, text), weights)
    for case in range(2):
        mean = torch.zeros(7)
        for item in range(3):
            surprise = (visual[case, item] - look.predicted.weight @ text[case, item] - look.predicted.bias) * 6**0.5
            hidden = functional.gelu(look.item[0].weight @ surprise + look.item[0].bias)
            mean += weights[case, item] * functional.gelu(look.item[2].weight @ hidden + look.item[2].bias)
        rows = (look.image_proj.proj.weight @ mean + look.image_proj.proj.bias).view(3, 4)
        torch.testing.assert_close(tokens[case], functional.layer_norm(rows, (4,)))


@torch.no_grad()
def test_an_item_of_no_weight_and_the_order_of_items_change_nothing() -> None:
    look, visual, text = build_look(), draw_units(1, 4, 6, seed=1), draw_units(1, 4, 5, seed=2)
    weights = torch.tensor([[0.2, 0.5, 0.3, 0.0]])
    order = torch.tensor([2, 0, 1])
    whole = look.write_tokens(look.map_items(visual, text), weights)
    torch.testing.assert_close(look.write_tokens(look.map_items(visual[:, order], text[:, order]), weights[:, order]), whole)


@torch.no_grad()
def test_what_a_text_predicts_is_the_ridge_regression() -> None:
    look, visual, text = build_look(), draw_units(40, 6, seed=3), draw_units(40, 5, seed=4)
    fit_prediction(look, visual, text, ridge=0.3)
    x, y = text.double().numpy(), visual.double().numpy()
    x_centred = x - x.mean(axis=0)
    penalty = 0.3 * (x_centred**2).sum(axis=1).mean()
    # the oracle: least squares with one extra row for each penalised coefficient
    solved = np.linalg.lstsq(np.vstack([x_centred, np.sqrt(penalty) * np.eye(5)]), np.vstack([y - y.mean(axis=0), np.zeros((5, 6))]), rcond=None)[0]
    np.testing.assert_allclose(look.predicted.weight.numpy(), solved.T, atol=1e-6)
    np.testing.assert_allclose(look.predicted(text).mean(dim=0).numpy(), y.mean(axis=0), atol=1e-6)


def test_weights_come_back_as_they_were_saved_and_another_file_is_refused(tmp_path: Path) -> None:
    look = build_look()
    save_look_map(tmp_path / "look.safetensors", look)
    loaded = load_look_map(tmp_path / "look.safetensors")
    assert loaded.shape == SHAPE
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in look.state_dict().items())
    write_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="holds no look map"):
        load_look_map(tmp_path / "other.safetensors")


def test_names_and_shapes_of_the_last_layer_are_those_of_an_ip_adapter() -> None:
    state = {name: tuple(value.shape) for name, value in build_look().state_dict().items() if name.startswith("image_proj.")}
    assert state == {"image_proj.proj.weight": (12, 7), "image_proj.proj.bias": (12,), "image_proj.norm.weight": (4,), "image_proj.norm.bias": (4,)}
