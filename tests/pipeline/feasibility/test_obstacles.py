"""What the check says of tiny data sets. Run: python -m pytest tests/pipeline/feasibility/test_obstacles.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.dataset import SPLITS, assign_splits
from pipeline.feasibility.material import load_plan, survey
from pipeline.feasibility.notes import list_notes
from tests.pipeline.feasibility.tiny_data_sets import DEFAULT, change, find, make_dataset
from tests.test_repo_rules import REPO

SPLIT_OF_THREE = ["train", "val", "test"]
ABC = ["a", "b", "c"]


@pytest.mark.parametrize("num_users", [3, 4, 5, 6, 7, 10])
@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.5, 0.1, 0.4), (0.98, 0.01, 0.01), (0.01, 0.01, 0.98)])
def test_few_users_leave_no_split_empty_that_has_a_share(num_users: int, shares: tuple[float, ...]) -> None:
    splits = assign_splits([f"u{n}" for n in range(num_users)], shares)
    assert set(splits) == set(SPLITS)
    largest = SPLITS[int(np.argmax(shares))]
    assert splits.count(largest) == max(map(splits.count, SPLITS))


def test_a_split_without_a_share_stays_empty_and_two_users_fill_two() -> None:
    assert set(assign_splits(range(7), (0.9, 0.0, 0.1))) == {"train", "test"}
    assert len(set(assign_splits(range(2), (0.8, 0.1, 0.1)))) == 2


def test_a_data_set_that_has_all_that_is_needed_has_no_obstacle() -> None:
    assert find(make_dataset([["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]], SPLIT_OF_THREE), DEFAULT) == []


def test_an_empty_split_is_named_with_who_needs_it_and_the_shares_that_fill_it() -> None:
    dataset = make_dataset([ABC, ["d", "e", "f"], ["g", "h", "i"]], ["train", "train", "test"])
    assert find(dataset, change(DEFAULT, shares=(0.8, 0.0, 0.2), sd={"lora_rank": 4}, methods={"pmg", "ragar"})) == [
        "reflection and sd and pmg need a user of the split val, but none of the 3 is in it; set dataset.splits=[0.7,0.1,0.2]."
    ]
    without_shares = change(DEFAULT, evaluation={"split": "val"}, generation={"splits": ("val",)}, shares=())
    assert find(dataset, without_shares) == [
        "reflection and generation and evaluation need a user of the split val, but none of the 3 is in it; "
        "the data set's own files say who is in it."
    ]


def test_a_baseline_that_is_given_retrieved_items_needs_some() -> None:
    dataset = make_dataset([ABC, ["d"], ["g", "h", "i"]], SPLIT_OF_THREE)
    asked = {"ti_retrieved", "pmg_retrieved", "ragar"}
    without = change(DEFAULT, methods=asked, retrieval={"k": 0})
    reason = "needs retrieved items, but 1 of 1 drawn cases have none (retrieval.k is 0, retrieval.strategy ret); set retrieval.k=5"
    assert find(dataset, without) == [f"{stage}_retrieved {reason} or comparison.{stage}_retrieved=false." for stage in ("ti", "pmg")]
    assert find(dataset, change(DEFAULT, methods={"ti", "pmg", "ragar"}, retrieval={"k": 0})) == []
    allowed = {"max_rejected_fraction": 1.0}
    beyond = change(DEFAULT, methods=asked, retrieval={"k": 1, "strategy": "exp-ret", **allowed}, preference=allowed, sd={"lora_rank": 0})
    assert [sentence for sentence in find(dataset, beyond) if "retrieved items" in sentence] == [
        "pmg_retrieved needs retrieved items, but no case of the split val has any (retrieval.k is 1, retrieval.strategy exp-ret); "
        "set retrieval.strategy=ret or comparison.pmg_retrieved=false."
    ]


def test_only_test_users_are_refused_in_sentences_about_the_splits() -> None:
    dataset = make_dataset([ABC, ["d", "e", "f"], ["g", "h", "i"]], ["test"] * 3)
    everybody = {"splits": ("train", "val", "test")}
    assert find(dataset, change(DEFAULT, shares=(0.0, 0.0, 1.0), generation=everybody)) == [
        "mapper and reflection need a user of the split train, but none of the 3 is in it; set dataset.splits=[0.1,0.1,0.8].",
        "reflection needs a user of the split val, but none of the 3 is in it; set dataset.splits=[0.1,0.1,0.8].",
    ]


def test_what_is_drawn_must_be_what_is_scored() -> None:
    dataset = make_dataset([ABC, ["d", "e", "f"], ["g", "h", "i"]], SPLIT_OF_THREE)
    assert find(dataset, change(DEFAULT, generation={"splits": ("val",)})) == [
        "evaluation.split is test, but generation.splits is [val]; set generation.splits=[val,test]."
    ]


def test_equal_pictures_are_one_caption() -> None:
    dataset = make_dataset([["a=1", "a=2", "a=3"], ["d", "e", "f"], ["g", "h", "i"]], SPLIT_OF_THREE)
    assert find(dataset, DEFAULT) == [
        "mapper needs 2 different pictures in training users' histories of two items and more, one to learn and one to hold out, but there are 1; "
        "set mapper.prompt=detailed."
    ]
    assert find(dataset, change(DEFAULT, mapper={"prompt": "detailed"})) == []


@pytest.mark.parametrize(
    ("histories", "validation_items", "cure"),
    [
        ([ABC, ABC, ABC], 1, "set ranker.negatives=all."),
        ([["a", "b"], ["b", "a"], ["a", "b"]], 0, "set ranker.negatives=all."),
        ([ABC, ABC, ABC], 0, "set ranker.negatives=all."),
    ],
)
def test_users_who_have_seen_every_item_leave_nothing_to_rank(histories: list[list[str]], validation_items: int, cure: str) -> None:
    dataset = make_dataset(histories, SPLIT_OF_THREE)
    (obstacle,) = find(dataset, change(DEFAULT, ranker={"validation_items": validation_items}))
    assert obstacle == (
        "ranker learns from an item that a user has seen and one that they have not, but every user has seen every item that may be drawn "
        f"(ranker.negatives interacted); {cure}"
    )
    assert find(dataset, change(DEFAULT, ranker={"validation_items": validation_items, "negatives": "all"})) == []


def test_histories_no_longer_than_k_are_counted_where_what_ranks_beyond_is_asked_for() -> None:
    dataset = make_dataset([ABC, ["d", "e", "f"], ["g", "h", "i", "j"]], SPLIT_OF_THREE)
    assert find(dataset, change(DEFAULT, retrieval={"strategy": "exp-ret", "k": 3}))[0] == (
        "retrieval.strategy exp-ret takes what ranks beyond retrieval.k, 3, but 2 of 3 histories are no longer; set retrieval.k=2."
    )
    assert find(dataset, change(DEFAULT, retrieval={"strategy": "exp-ret", "k": 2})) == []
    assert find(dataset, change(DEFAULT, retrieval={"strategy": "ret", "k": 3})) == []


def test_notes_say_what_few_users_and_few_items_do_to_the_figures() -> None:
    def list_all(*arguments: Any, **options: Any) -> list[str]:
        return list(list_notes(survey(make_dataset(*arguments, **options)), DEFAULT))

    one = "evaluation scores 1 test user. One user has no interval, and says nothing of others."
    assert list_all([ABC, ["d"], ["e"]], SPLIT_OF_THREE) == [
        one,
        "a reference has 4 rivals (items that its user has not seen), fewer than the 99 that are to be sampled: all of them are ranked, "
        "and R@10 is 1 for whoever has fewer than 10.",
    ]
    assert list_all([ABC, ABC, ABC], SPLIT_OF_THREE) == [
        one,
        "every scored user has seen every other item, so that no reference has a rival: it always ranks first, and ΔR says nothing; add items.",
    ]
    assert list_all([ABC] * 22, ["train", "val", *["test"] * 20], num_items=99) == []
    assert list_all([ABC] * 7, ["train", "val", *["test"] * 5], num_items=99) == [
        "evaluation scores 5 test users. Means over 5 users say little of others: below 10 none has an interval or is called better or worse."
    ]


def test_a_wrong_value_in_any_block_is_found_beforehand(tmp_path: Path) -> None:
    text = (REPO / "params.yaml").read_text(encoding="utf-8").replace("batch_cases: 4", "batch_cases: 0", 1)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"params\.yaml: reflection\.batch_cases is 0, but it must be >= 1"):
        load_plan(tmp_path / "params.yaml")
