"""The sparse graphs equal MICRO's dense recipe, in values and gradients. Run: python -m pytest tests/pipeline/ranker/test_graph.py"""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.ranker import graph
from pipeline.ranker.graph import build_interaction_graph, build_item_graph, invert_root, propagate_interactions, propagate_items, select_neighbours


def build_dense(feature_NF: Tensor, k: int) -> Tensor:
    """MICRO's recipe, written down densely: cosines, top-k of each row, D^-1/2 W D^-1/2 with row sums."""
    unit_NF = feature_NF / feature_NF.norm(dim=1, keepdim=True)
    cosine_NN = unit_NF @ unit_NF.T
    value_NK, index_NK = cosine_NN.topk(k, dim=1)
    kept_NN = torch.zeros_like(cosine_NN).scatter(1, index_NK, value_NK)
    degree_N = kept_NN.sum(dim=1)
    return degree_N[:, None] ** -0.5 * kept_NN * degree_N[None, :] ** -0.5


def to_dense(item_graph: graph.ItemGraph) -> Tensor:
    num_items = len(item_graph.index_NK)
    return torch.zeros(num_items, num_items, dtype=item_graph.weight_NK.dtype).scatter(1, item_graph.index_NK, item_graph.weight_NK)


def make_features(num_items: int = 60, dim: int = 7) -> Tensor:
    # a common direction keeps all row sums positive, as for real image features
    return torch.randn(num_items, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1.0


def test_the_graph_equals_the_dense_recipe_in_values_and_gradients() -> None:
    sparse_NF, dense_NF = make_features().requires_grad_(), make_features().requires_grad_()
    value_ND = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sparse_ND = propagate_items(build_item_graph(sparse_NF, num_neighbors=10), value_ND)
    dense_ND = build_dense(dense_NF, 10) @ value_ND
    torch.testing.assert_close(sparse_ND, dense_ND, rtol=0, atol=1e-12)
    sparse_ND.square().sum().backward()
    dense_ND.square().sum().backward()
    torch.testing.assert_close(sparse_NF.grad, dense_NF.grad, rtol=0, atol=1e-12)


def test_gradients_also_reach_the_propagated_vectors() -> None:
    item_graph = build_item_graph(make_features(), num_neighbors=4)
    value_ND = torch.randn(60, 3, dtype=torch.float64).requires_grad_()
    propagate_items(item_graph, value_ND).sum().backward()
    torch.testing.assert_close(value_ND.grad, to_dense(item_graph).T @ torch.ones(60, 3, dtype=torch.float64))


def test_three_items_worked_by_hand() -> None:
    # at 0, 60 and 90 degrees: cosines 0.5, 0.866 (60 to 90), 0; two neighbours each
    feature_NF = torch.tensor([[2.0, 0.0], [0.5, 0.75**0.5], [0.0, 3.0]])
    item_graph = build_item_graph(feature_NF, num_neighbors=2)
    assert item_graph.index_NK.tolist() == [[0, 1], [1, 2], [2, 1]]
    torch.testing.assert_close(item_graph.degree_N, torch.tensor([1.5, 1.8660254, 1.8660254]))
    torch.testing.assert_close(item_graph.weight_NK[0], torch.tensor([1 / 1.5, 0.5 / (1.5 * 1.8660254) ** 0.5]))


def test_block_size_does_not_change_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_item_graph(make_features(), num_neighbors=6)
    monkeypatch.setattr(graph, "BLOCK_ELEMENTS", 130)  # two rows per block
    blocked = build_item_graph(make_features(), num_neighbors=6)
    assert torch.equal(whole.index_NK, blocked.index_NK)
    torch.testing.assert_close(whole.weight_NK, blocked.weight_NK, rtol=0, atol=1e-14)


class LargestTensor(TorchDispatchMode):
    """Remember the number of elements of the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def test_no_tensor_grows_with_the_square_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "BLOCK_ELEMENTS", 1 << 14)
    feature_NF = make_features(800, 8).requires_grad_()
    with LargestTensor() as largest:
        build_item_graph(feature_NF, num_neighbors=10).weight_NK.sum().backward()
    assert largest.numel <= 800 * 10 * 8  # N k F; N x N would be ten times as much


def test_rows_of_zeros_get_zero_weights_and_zero_gradients_instead_of_nan() -> None:
    feature_NF = torch.cat([torch.zeros(2, 7, dtype=torch.float64), make_features(20)]).requires_grad_()
    item_graph = build_item_graph(feature_NF, num_neighbors=4)
    assert item_graph.weight_NK[:2].abs().max() == 0
    item_graph.weight_NK.square().sum().backward()
    assert torch.isfinite(feature_NF.grad).all()


def test_degrees_that_are_not_positive_count_as_no_edge() -> None:
    degree = torch.tensor([4.0, 0.0, -1.0], requires_grad=True)
    root = invert_root(degree)
    assert root.tolist() == [0.5, 0.0, 0.0]
    root.sum().backward()
    assert degree.grad.tolist() == [-0.0625, 0.0, 0.0]


def test_an_item_is_its_own_neighbour_among_duplicates_and_ties_go_to_the_lower_index() -> None:
    feature_NF = torch.full((9, 4), 0.5, dtype=torch.float64)
    index_NK = select_neighbours(feature_NF, feature_NF, torch.arange(9), num_neighbors=3)
    assert index_NK[5].tolist() == [5, 0, 1]
    assert index_NK[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("num_copies", [0, 5, 40])
def test_the_candidates_lead_to_the_choice_that_sorting_whole_rows_makes(num_copies: int) -> None:
    value_BN = torch.rand(200, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    value_BN[::2, :num_copies] = value_BN[::2, :1] + 0.2 * graph.QUANTUM  # ties that reach beyond the candidates, or do not
    value_BN[1::2, ::3] = (value_BN[1::2, ::3] * 8).round() / 8
    keys_BN = graph.build_keys(value_BN, torch.arange(60), 60)
    assert torch.equal(graph.choose_largest(value_BN, 7), keys_BN.topk(7, dim=1).indices)


def test_a_catalogue_smaller_than_k_keeps_every_item() -> None:
    assert build_item_graph(make_features(3), num_neighbors=10).index_NK.shape == (3, 3)


def test_the_interaction_graph_is_row_normalised_with_self_loops() -> None:
    pair_P2 = torch.tensor([[0, 0], [0, 2], [1, 2]])  # 2 users, 3 items; item 1 was never seen
    adjacency = torch.eye(5, dtype=torch.float64)
    for user, item in pair_P2.tolist():
        adjacency[user, 2 + item] = adjacency[2 + item, user] = 1.0
    dense = adjacency / adjacency.sum(dim=1, keepdim=True)
    value_MD = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sparse = propagate_interactions(build_interaction_graph(pair_P2, num_users=2, num_items=3), value_MD)
    torch.testing.assert_close(sparse, dense @ value_MD)
    torch.testing.assert_close(sparse[3], value_MD[3])
