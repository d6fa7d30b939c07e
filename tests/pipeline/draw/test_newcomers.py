"""Rankers that know new users and new references. Run: python -m pytest tests/pipeline/draw/test_newcomers.py"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.artifacts import build_table, get_matrix
from pipeline.draw.newcomers import add_users, find_stand_ins, infer_users, number_categories, rank_in_place
from pipeline.draw.user_check import HeldOut, compute_rank_correlation, leave_users_out, list_held_out, measure_kind
from pipeline.ranker.fit import build_model, read_data
from pipeline.ranker.scoring import RankerScorer, build_scorer
from pipeline.schemas import EMBEDDINGS, INTERACTIONS
from tests.configs import RANKER
from tests.pipeline.draw.toy_run import ToyRun
from tests.pipeline.ranker.conftest import build_world

TABLES = build_world(12, 40)


def make_scorer(*, forgotten: str = "") -> RankerScorer:
    """Build a scorer with random weights; the id vector of a forgotten user is zero."""
    data = read_data(*TABLES, config=RANKER)
    model = build_model(data, RANKER, seed=0, device=torch.device("cpu"))
    with torch.no_grad():
        if forgotten:
            model.user_embedding.weight[data.user_ids.index(forgotten)] = 0.0
    ids = {"user_ids": data.user_ids, "item_ids": data.item_ids, "image_feature": RANKER.image_feature}
    return build_scorer(model.state_dict(), data.features, data.train_P2, config=RANKER, **ids)


def list_seen(scorer: RankerScorer, user_id: str) -> list[str]:
    return [scorer.item_ids[item] for user, item in scorer.model.pair_P2.tolist() if scorer.user_ids[user] == user_id]


def test_neighbours_is_micros_own_propagation_for_a_user_without_an_id_vector() -> None:
    scorer = make_scorer(forgotten="user-003")
    inferred_1D = infer_users(scorer, [list_seen(scorer, "user-003")], kind="neighbours")
    assert torch.allclose(inferred_1D[0], scorer.state.user_UD[scorer.user_index["user-003"]], atol=1e-12)


def test_filled_takes_the_mean_id_vector_of_the_history_for_the_users_own() -> None:
    scorer = make_scorer()
    seen = list_seen(scorer, "user-005")
    mean_D = scorer.model.item_id_embedding.weight[[scorer.item_index[item_id] for item_id in seen]].mean(dim=0)
    weights = {name: weight.clone() for name, weight in scorer.model.state_dict().items()}
    weights["user_embedding.weight"][scorer.user_index["user-005"]] = mean_D
    ids = {"user_ids": scorer.user_ids, "item_ids": scorer.item_ids, "image_feature": scorer.image_feature}
    filled = build_scorer(weights, scorer.features, scorer.model.pair_P2, config=scorer.model.config, **ids)
    first = infer_users(filled, [seen], kind="filled")[0]
    assert torch.allclose(first, filled.state.user_UD[filled.user_index["user-005"]], atol=1e-12)


def test_items_is_the_mean_of_the_items_vectors_whatever_is_not_known() -> None:
    scorer = make_scorer()
    wanted_D = scorer.state.item_ND[[scorer.item_index[item_id] for item_id in ("item-0003", "item-0007")]].mean(dim=0)
    assert torch.equal(infer_users(scorer, [["item-0007", "gone", "item-0003", "item-0007"]], kind="items")[0], wanted_D)


@pytest.mark.parametrize("kind", ["items", "neighbours", "filled"])
def test_a_history_of_unknown_items_prefers_nothing(kind: str) -> None:
    scorer = make_scorer()
    assert infer_users(scorer, [["gone"]], kind=kind).abs().sum() == 0


def test_new_users_are_scored_and_the_known_ones_as_before() -> None:
    scorer = make_scorer()
    more = add_users(scorer, {"new": ["item-0001", "item-0002"], "user-000": ["item-0009"]})
    assert more.user_ids == (*scorer.user_ids, "new")
    assert torch.equal(more.score_all(["user-000", "user-004"]), scorer.score_all(["user-000", "user-004"]))
    wanted_N = infer_users(scorer, [["item-0001", "item-0002"]])[0] @ scorer.state.item_ND.T
    assert torch.allclose(more.score_all(["new"])[0], wanted_N.float())
    assert "new" not in scorer.user_index


def test_a_new_reference_stands_in_the_place_of_the_item_that_is_most_like_it() -> None:
    scorer, embeddings = make_scorer(), TABLES[2]
    rows = embeddings.to_pylist()
    mixed = (0.9 * np.array(rows[5]["semantic"]) + 0.1 * np.array(rows[6]["semantic"])).tolist()
    new = build_table([{**rows[5], "item_id": "new-1", "semantic": mixed}, {**rows[8], "item_id": "new-0"}], EMBEDDINGS)
    stand_ins = find_stand_ins(new, embeddings, scorer)
    assert stand_ins == {"new-1": "item-0005", "new-0": "item-0008"}
    own_BF = get_matrix(embeddings, "visual")[[5]]
    before_B, after_B = rank_in_place(scorer, ["user-001"], ["item-0005"], own_BF, get_matrix(embeddings, "visual")[[6]], [["item-0001"]])
    assert before_B.tolist() == scorer.rank_original(["user-001"], ["item-0005"], exclude=[["item-0001"]]).tolist()
    assert (
        after_B.tolist()
        == scorer.rank_substituted(["user-001"], ["item-0005"], get_matrix(embeddings, "visual")[[6]], exclude=[["item-0001"]]).tolist()
    )


def test_a_new_item_has_its_category_or_that_of_the_item_most_like_it() -> None:
    catalogue = pa.table({"item_id": ["a", "b", "c"], "category": ["mugs", "", "pots"]})
    scorer = SimpleNamespace(item_index={"c": 0, "a": 1}, category_N=torch.tensor([1, 0]))  # b's image could not be encoded
    new = pa.table({"item_id": ["new-1", "new-2", "new-3"], "category": ["mugs", "pans", ""]})
    stand_in_of = {"new-1": "c", "new-2": "c", "new-3": "a"}
    assert number_categories(new, catalogue, scorer, stand_in_of) == {"new-1": 0, "new-2": 1, "new-3": 0}


def test_users_can_be_left_out_of_the_graph() -> None:
    scorer = make_scorer()
    other = leave_users_out(scorer, ["user-001", "user-002"])
    assert set(scorer.model.pair_P2[:, 0].tolist()) - set(other.model.pair_P2[:, 0].tolist()) == {1, 2}
    assert torch.equal(other.model.item_id_embedding.weight, scorer.model.item_id_embedding.weight)


def test_trained_vectors_agree_with_themselves_and_recall_is_that_of_the_held_out_items() -> None:
    scorer = make_scorer()
    score_N = scorer.score_all(["user-000"])[0]
    order = [scorer.item_ids[index] for index in score_N.argsort(descending=True).tolist()]
    seen = [item_id for item_id in order if item_id in list_seen(scorer, "user-000")]
    free = [item_id for item_id in order if item_id not in seen]
    people = [HeldOut("user-000", seen, [free[9], free[10]])]  # the tenth and the eleventh of those that can be recommended
    row = measure_kind(scorer, people, "trained")
    assert row == {"vector": "trained", "users": 1, "R@10": 0.5, "shared top 10": 1.0, "rank correlation": pytest.approx(1.0)}


def test_a_rank_correlation_is_spearmans() -> None:
    first, second = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[10.0, 30.0, 20.0, 40.0]])
    assert compute_rank_correlation(first, second).tolist() == [pytest.approx(0.8)]  # 1 - 6 * 2 / (4 * 15)
    assert compute_rank_correlation(first, -first).tolist() == [pytest.approx(-1.0)]


def test_held_out_is_what_the_ranker_was_not_trained_on(toy: ToyRun) -> None:
    scorer = make_scorer()
    interactions = TABLES[0].to_pylist()
    toy.write("ranker", "interactions", TABLES[0], INTERACTIONS, None)
    people = list_held_out(scorer, toy.run)
    assert len(people) == 12
    last = max((row for row in interactions if row["user_id"] == "user-004"), key=lambda row: row["position"])
    assert next(person.targets for person in people if person.user_id == "user-004") == [last["item_id"]]
