"""The modal mapper and the [IMG] vectors against GILL. Run: pytest tests/pipeline/conditioning/test_mapper.py"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.conditioning.img_tokens import init_img_vectors
from pipeline.conditioning.mapper import MapperShape, ModalMapper, compute_gill_loss, load_mapper, save_mapper

SMALL = MapperShape(d_model=16, num_layers=2, num_heads=4, ffn_dim=24, input_dim=32, num_img_tokens=3, num_tokens=7, token_dim=12)


def make_mapper(shape: MapperShape = SMALL) -> ModalMapper:
    return ModalMapper(shape, generator=torch.Generator().manual_seed(0))


def make_rows(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(1))


def test_the_paper_size_has_gills_number_of_parameters_and_names() -> None:
    shape = MapperShape(d_model=512, num_layers=4, num_heads=4, ffn_dim=2048, input_dim=896, num_img_tokens=8, num_tokens=77, token_dim=768)
    with torch.device("meta"):
        mapper = ModalMapper(shape)
    assert round(sum(parameter.numel() for parameter in mapper.parameters()) / 1e6, 2) == 30.32  # Qwen2.5-0.5B's width
    sizes = {name: tuple(value.shape) for name, value in mapper.state_dict().items()}
    assert sizes["query_embs"] == (1, 77, 512)
    assert sizes["fc.weight"] == (512, 896)
    assert sizes["model.weight"] == (768, 512)
    assert sizes["tfm.encoder.layers.3.self_attn.in_proj_weight"] == (1536, 512)
    assert sizes["tfm.decoder.layers.3.multihead_attn.in_proj_weight"] == (1536, 512)
    assert sizes["tfm.decoder.layers.0.linear1.weight"] == (2048, 512)
    assert {"tfm.encoder.norm.weight", "tfm.decoder.norm.weight"} <= set(sizes)


def test_the_vectors_are_added_to_their_states_first() -> None:
    mapper, states, vectors = make_mapper(), make_rows(2, 3, 32), make_rows(3, 32)
    assert mapper(states, vectors).shape == (2, 7, 12)
    torch.testing.assert_close(mapper(states, vectors), mapper(states + vectors, torch.zeros(3, 32)))


def test_the_transformer_is_pre_norm_without_dropout_and_without_causal_mask() -> None:
    mapper, states, vectors = make_mapper().train(), make_rows(2, 3, 32), make_rows(3, 32)
    assert all(layer.norm_first for layer in [*mapper.tfm.encoder.layers, *mapper.tfm.decoder.layers])
    assert torch.equal(mapper(states, vectors), mapper(states, vectors))
    queries = mapper.query_embs.detach().clone().requires_grad_(True)
    hidden = mapper.fc(states + vectors)
    mapper.tfm(hidden, queries.expand(2, -1, -1))[:, 0].sum().backward()
    assert (queries.grad.abs().sum(dim=-1) > 0).all()  # the first query sees the later ones


def test_weights_follow_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = make_mapper().state_dict()
    torch.manual_seed(2)
    second = make_mapper().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert abs(float(first["query_embs"].std()) - 1) < 0.2  # 112 draws from N(0, 1)


def test_gill_loss_is_the_mean_distance_per_token() -> None:
    mapped = torch.zeros(1, 2, 2)
    target = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    assert compute_gill_loss(mapped, target).item() == pytest.approx(3.0)  # (5 + 1) / 2; a squared error would be 6.5


def test_gill_loss_refuses_to_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        compute_gill_loss(torch.zeros(2, 7, 12), torch.zeros(2, 12))


def test_img_vectors_start_apart_with_the_mean_norm_of_the_vocabulary() -> None:
    vectors = init_img_vectors(4, torch.ones(16), 2.5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((4,), 2.5))
    assert torch.pdist(vectors).min() > 0.1


def test_a_file_brings_back_the_mapper_and_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    mapper, vectors = make_mapper(), make_rows(3, 32)
    for name in ("first", "second"):
        save_mapper(tmp_path / name, mapper, vectors, {"seed": 7})
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    loaded, loaded_vectors, facts = load_mapper(tmp_path / "first")
    assert facts == {"seed": 7}
    assert loaded.shape == SMALL
    assert torch.equal(loaded_vectors, vectors)
    assert torch.equal(loaded(make_rows(2, 3, 32), vectors), mapper(make_rows(2, 3, 32), vectors))


def test_another_file_is_refused(tmp_path: Path) -> None:
    from pipeline.artifacts import write_tensors

    write_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match="no mapper file"):
        load_mapper(tmp_path / "other.safetensors")


def test_a_width_that_the_heads_do_not_divide_is_named() -> None:
    with pytest.raises(ValueError, match="d_model 10 is not divisible by num_heads 4"):
        MapperShape(d_model=10, num_layers=1, num_heads=4, ffn_dim=8, input_dim=8, num_img_tokens=1, num_tokens=1, token_dim=8)
