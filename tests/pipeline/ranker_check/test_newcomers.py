"""Users and items that the evaluation ranker was not trained on. Run: python -m pytest tests/pipeline/ranker_check/test_newcomers.py"""

from __future__ import annotations

import pytest
import torch

from pipeline.ranker_check.fit import build_tower
from pipeline.ranker_check.material import CheckData
from pipeline.ranker_check.newcomers import add_items, add_users
from pipeline.ranker_check.scoring import CheckScorer
from tests.configs import RANKER_CHECK as CONFIG

REFERENCE, UNSEEN = "animals-1-00", "food-2-00"


@pytest.fixture
def scorer(world: CheckData) -> CheckScorer:
    """The untrained ranker: what newcomers are made of does not depend on its weights."""
    return CheckScorer(build_tower(world, CONFIG), world.catalogue, world.user_ids, torch.cat([world.train_P2, world.held_out_P2]))


def list_history(world: CheckData, user_id: str) -> list[str]:
    user = world.user_ids.index(user_id)
    return [world.catalogue.item_ids[item] for owner, item in torch.cat([world.train_P2, world.held_out_P2]).tolist() if owner == user]


def test_a_new_user_with_a_known_ones_history_has_their_vector_and_ranks(world: CheckData, scorer: CheckScorer) -> None:
    history = list_history(world, "u007")
    more = add_users(scorer, {"new": [*history, "gone", history[0]], "u003": history})
    assert torch.allclose(more.user_UD[more.user_index["new"]], scorer.user_UD[scorer.user_index["u007"]], atol=1e-14)
    assert torch.equal(more.user_UD[:-1], scorer.user_UD)  # u003 stays who they are
    found = more.rank_original(["new"], [REFERENCE], exclude=[history])
    assert found.tolist() == scorer.rank_original(["u007"], [REFERENCE], exclude=[history]).tolist()
    assert "new" not in scorer.user_index


def test_a_new_user_is_the_direction_of_the_sum(scorer: CheckScorer) -> None:
    first, second = (scorer.item_ND[scorer.item_index[item_id]] for item_id in (REFERENCE, UNSEEN))
    more = add_users(scorer, {"b": [REFERENCE, UNSEEN], "a": ["gone"], "c": [UNSEEN]})
    assert list(more.user_index)[-3:] == ["b", "a", "c"]
    wanted_3D = torch.stack([(first + second) / (first + second).norm(), torch.zeros_like(first), second])
    assert torch.allclose(more.user_UD[-3:], wanted_3D, atol=1e-14)


def test_without_newcomers_nothing_changes(scorer: CheckScorer) -> None:
    assert torch.equal(add_users(scorer, {}).user_UD, scorer.user_UD)
    assert torch.equal(add_users(scorer, {"new": []}).user_UD[-1], torch.zeros_like(scorer.user_UD[0]))


def test_a_new_item_with_a_known_ones_image_and_category_ranks_as_that_one(world: CheckData, scorer: CheckScorer) -> None:
    place = scorer.item_index[REFERENCE]
    image_1F, category = world.catalogue.image_NF[[place]], int(world.catalogue.category_N[place])
    more = add_items(scorer, ["new-1", "new-2"], torch.cat([image_1F, -image_1F]), [category, 1 - category])
    users, history = ["u001", "u002"], [["animals-0-01"], []]
    alone = [[*items, REFERENCE, "new-2"] for items in history]
    assert more.rank_original(users, ["new-1"] * 2, exclude=alone).tolist() == scorer.rank_original(users, [REFERENCE] * 2, exclude=history).tolist()
    drawn_BF = world.catalogue.image_NF[[0, 1]]
    found = more.rank_substituted(users, ["new-1"] * 2, drawn_BF, exclude=alone)
    assert found.tolist() == scorer.rank_substituted(users, [REFERENCE] * 2, drawn_BF, exclude=history).tolist()
    wanted_D = scorer.tower(-image_1F.double(), torch.tensor([1 - category]))[0]
    assert torch.allclose(more.item_ND[more.item_index["new-2"]], wanted_D, atol=1e-14)
    assert (len(scorer.item_index), len(scorer.item_ND), len(scorer.category_N)) == (72, 72, 72)


def test_new_items_are_candidates_of_the_others_unless_they_are_excluded(world: CheckData, scorer: CheckScorer) -> None:
    best = int((scorer.item_ND @ scorer.user_UD[0]).argmax())
    more = add_items(scorer, ["new-1"], world.catalogue.image_NF[[best]], [int(world.catalogue.category_N[best])])
    [before], [after] = (one.rank_original(["u000"], [UNSEEN], exclude=[[]]).tolist() for one in (scorer, more))
    assert after == before + 1
    assert more.rank_original(["u000"], [UNSEEN], exclude=[["new-1"]]).tolist() == [before]


def test_a_known_item_is_not_added_again(world: CheckData, scorer: CheckScorer) -> None:
    with pytest.raises(ValueError, match="knows 'animals-1-00' already"):
        add_items(scorer, [REFERENCE], world.catalogue.image_NF[:1], [0])
