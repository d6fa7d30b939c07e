"""Neighbours by a FAISS index against all items compared. Run: python -m pytest tests/pipeline/ranker/test_approximate.py"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.ranker import approximate, graph
from pipeline.ranker.fit import RankerTraining, train_ranker
from pipeline.ranker.graph import build_item_graph, normalise_rows, select_approximate_neighbours, select_neighbours
from pipeline.ranker.scoring import load_ranker, save_ranker
from tests.configs import RANKER
from tests.pipeline.ranker.large_world import build_large_data

CPU = torch.device("cpu")


def make_clusters(num_items: int = 3000, dim: int = 16) -> Tensor:
    return build_large_data(num_items, 100, dim=dim).features["image"]


def find_exactly(unit_NF: Tensor, k: int) -> Tensor:
    return select_neighbours(unit_NF, unit_NF, torch.arange(len(unit_NF)), num_neighbors=k)


def measure_recall(found_NK: Tensor, exact_NK: Tensor) -> float:
    return (found_NK[:, :, None] == exact_NK[:, None, :]).any(dim=1).double().mean().item()


def test_nearly_all_exact_neighbours_are_found_and_the_recall_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    unit_NF = make_clusters()
    found_NK, exact_NK = select_approximate_neighbours(unit_NF, num_neighbors=10), find_exactly(unit_NF, 10)
    recall = measure_recall(found_NK, exact_NK)
    assert recall >= approximate.RECALL
    assert torch.equal(found_NK[:, 0], torch.arange(len(unit_NF)))
    printed = capsys.readouterr().out
    assert "neighbours of 3,000 items by FAISS" in printed
    assert float(printed.split("recall ")[1].split()[0]) == pytest.approx(recall, abs=0.03)  # of 256 of the 3,000


def test_looking_into_every_cell_gives_the_exact_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "MIN_PROBES", 10**6)
    feature_NF = make_clusters(800)
    found, exact = (build_item_graph(feature_NF, num_neighbors=10, exact_items=bound) for bound in (800, 801))
    assert torch.equal(found.index_NK, exact.index_NK)
    assert torch.equal(found.weight_NK, exact.weight_NK)


def test_more_cells_are_looked_into_until_the_recall_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "MIN_PROBES", 1)
    unit_NF = normalise_rows(torch.randn(2000, 24, generator=torch.Generator().manual_seed(0)))  # no clusters: one cell holds few neighbours
    assert measure_recall(select_approximate_neighbours(unit_NF, num_neighbors=10), find_exactly(unit_NF, 10)) >= approximate.RECALL - 0.02
    monkeypatch.setattr(approximate, "RECALL", 0.0)
    assert measure_recall(select_approximate_neighbours(unit_NF, num_neighbors=10), find_exactly(unit_NF, 10)) < 0.7


def test_an_item_whose_cells_hold_too_few_is_compared_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    unit_NF = make_clusters(200)
    nothing = torch.full((200, 18), -1)
    nothing[1:, :10] = find_exactly(unit_NF, 10)[1:]
    monkeypatch.setattr(graph, "search_candidates", lambda *_, **__: nothing)
    assert torch.equal(select_approximate_neighbours(unit_NF, num_neighbors=10), find_exactly(unit_NF, 10))


def test_among_named_candidates_ties_go_to_the_lower_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "search_candidates", lambda *_, **__: torch.tensor([[4, 3, 2, 1, 0]] * 5))
    assert select_approximate_neighbours(torch.full((5, 4), 0.5), num_neighbors=3).tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1], [4, 0, 1]]


def test_the_recall_is_the_share_of_exact_neighbours_among_the_candidates() -> None:
    assert approximate.measure_recall(np.array([[1, 2, 3], [4, 5, -1]]), np.array([[1, 9], [4, 5]])) == 0.75


def test_below_the_bound_the_file_has_the_same_bytes_whatever_the_bound_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    data, written = build_large_data(60, 600, dim=8), []
    for place, bound in enumerate((61, 50_000)):
        trained = train_ranker(data, replace(RANKER, exact_items=bound, epochs=1), seed=0, device=CPU, checkpoint_every=10)
        path = tmp_path / f"{place}.safetensors"
        save_ranker(path, trained.model, data.features, user_ids=data.user_ids, item_ids=data.item_ids, image_feature="visual")
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert b"exact_items" not in written[0]
    assert load_ranker(path).model.config.exact_items > 60


def test_a_ranker_of_a_large_catalogue_is_loaded_with_approximate_graphs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = build_large_data(60, 600, dim=8)
    training = RankerTraining(data, replace(RANKER, exact_items=60), seed=0, device=CPU)
    training.take_step(0)
    assert capsys.readouterr().out.count("by FAISS") == 4  # two graphs of the features, two learned ones
    path = tmp_path / "ranker.safetensors"
    save_ranker(path, training.model, data.features, user_ids=data.user_ids, item_ids=data.item_ids, image_feature="visual")
    assert load_ranker(path).model.config.exact_items == 60
    assert capsys.readouterr().out.count("by FAISS") == 4


@pytest.mark.parametrize(("max_steps", "batch_size"), [(1000, 64), (5, 121)])
def test_an_epoch_of_many_interactions_has_larger_batches_instead_of_more(max_steps: int, batch_size: int) -> None:
    training = RankerTraining(build_large_data(60, 600, dim=8), replace(RANKER, batch_size=64, max_steps=max_steps), seed=0, device=CPU)
    assert training.batch_size == batch_size
    assert training.num_batches == 600 // batch_size + 1 <= max_steps
