"""The model follows MICRO's forward pass and parameters. Run: python -m pytest tests/pipeline/ranker/test_micro.py"""

from dataclasses import replace

import pytest
import torch

from pipeline.ranker.micro import Micro
from tests.configs import RANKER
from tests.pipeline.ranker.test_graph import build_dense

PAIRS = torch.tensor([[0, 0], [0, 3], [1, 2], [2, 5]])


def make_model(**changes: object) -> Micro:
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randn(20, dim, dtype=torch.float64, generator=generator) + 1.0 for name, dim in (("image", 9), ("text", 7))}
    config = replace(RANKER, embedding_dim=6, num_neighbors=4, **changes)
    return Micro(features, PAIRS, num_users=3, config=config, generator=generator)


def test_the_state_dict_holds_micros_parameters_and_no_graph() -> None:
    shapes = {name: tuple(weight.shape) for name, weight in make_model().state_dict().items()}
    assert shapes == {
        "user_embedding.weight": (3, 6),
        "item_id_embedding.weight": (20, 6),
        "image_embedding.weight": (20, 9),
        "text_embedding.weight": (20, 7),
        "image_trs.weight": (6, 9),
        "image_trs.bias": (6,),
        "text_trs.weight": (6, 7),
        "text_trs.bias": (6,),
        "query.0.weight": (6, 6),
        "query.0.bias": (6,),
        "query.2.weight": (1, 6),
    }


@pytest.mark.parametrize("layers", [1, 2])
def test_the_forward_pass_equals_a_dense_reading_of_the_paper(layers: int) -> None:
    model = make_model(item_layers=layers)
    with torch.no_grad():
        vectors = model(model.build_learned_graphs())
        value_ND, views = model.item_id_embedding.weight, {}
        for name in ("image", "text"):
            table, linear = model.get_submodule(f"{name}_embedding"), model.get_submodule(f"{name}_trs")
            mixed = 0.9 * build_dense(table.weight, 4) + 0.1 * build_dense(linear(table.weight), 4)
            views[name] = torch.linalg.matrix_power(mixed, layers) @ value_ND
        score = torch.stack([model.query(views["image"]), model.query(views["text"])])
        alpha = torch.exp(score) / torch.exp(score).sum(dim=0)
        fused = alpha[0] * views["image"] + alpha[1] * views["text"]
        adjacency = torch.eye(23, dtype=torch.float64)
        for user, item in PAIRS.tolist():
            adjacency[user, 3 + item] = adjacency[3 + item, user] = 1.0
        average = adjacency / adjacency.sum(dim=1, keepdim=True)
        start = torch.cat([model.user_embedding.weight, value_ND])
        mean = (start + average @ start + average @ average @ start) / 3
    torch.testing.assert_close(vectors.user_UD, mean[:3])
    torch.testing.assert_close(vectors.item_ND, mean[3:] + fused / fused.norm(dim=1, keepdim=True))


def test_features_get_a_gradient_only_through_a_graph_that_was_not_detached() -> None:
    model = make_model()
    learned = model.build_learned_graphs()
    model({name: graph.detach() for name, graph in learned.items()}).item_ND.sum().backward()
    assert model.image_embedding.weight.grad is None
    assert model.item_id_embedding.weight.grad.abs().sum() > 0
    model(learned).item_ND.square().sum().backward()
    assert model.image_embedding.weight.grad.abs().sum() > 0
    assert model.text_trs.weight.grad.abs().sum() > 0


def test_fixed_features_are_not_trained_but_their_projection_is() -> None:
    model = make_model(train_features=False)
    model(model.build_learned_graphs()).item_ND.square().sum().backward()
    assert model.image_embedding.weight.grad is None
    assert model.image_trs.weight.grad.abs().sum() > 0


def test_initial_weights_depend_on_the_generator_alone() -> None:
    first = make_model().state_dict()
    torch.manual_seed(123)
    assert all(torch.equal(weight, first[name]) for name, weight in make_model().state_dict().items())
