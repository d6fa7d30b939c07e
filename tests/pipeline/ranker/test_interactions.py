"""Tables become indices, splits and training triples. Run: python -m pytest tests/pipeline/ranker/test_interactions.py"""

import pytest
import torch

from pipeline.artifacts import build_table
from pipeline.ranker.interactions import RankerData, build_ranker_data, build_sampler, sample_triples
from pipeline.schemas import CASES, EMBEDDINGS, INTERACTIONS, ITEMS

HISTORIES = {"u1": ["a", "b", "a", "c"], "u2": ["d", "broken"], "u3": ["b"]}


def build(**changes: object) -> RankerData:
    interactions = [{"user_id": user, "item_id": item, "position": place} for user, items in HISTORIES.items() for place, item in enumerate(items)]
    references = {"u1": "d", "u2": "a", "u4": "broken"}
    cases = [
        {"case_id": f"case-{user}", "user_id": user, "split": "test", "history": HISTORIES.get(user, []), "reference_id": item, "truth_id": None}
        for user, item in references.items()
    ]
    vectors = [{"item_id": item, "semantic": [1.0, 0.0], "visual": [0.0, 2.0], "clip_image": [3.0, 4.0]} for item in "abcd"]
    options = {"image_feature": "clip_image", "text_feature": "semantic", "validation_items": 1, "include_reference": False}
    tables = (build_table(interactions, INTERACTIONS), build_table(cases, CASES), build_table(vectors, EMBEDDINGS))
    return build_ranker_data(*tables, **{**options, **changes})


def name_pairs(data: RankerData, pair_P2: torch.Tensor) -> list[str]:
    return [f"{data.user_ids[user]}-{data.item_ids[item]}" for user, item in pair_P2.tolist()]


def test_the_last_item_of_every_user_with_two_is_left_out_for_validation() -> None:
    data = build()
    assert name_pairs(data, data.train_P2) == ["u1-a", "u1-b", "u2-d", "u3-b"]
    assert name_pairs(data, data.validation_P2) == ["u1-c"]
    assert not len(build(validation_items=0).validation_P2)


def test_items_without_an_embedding_are_left_out_and_counted() -> None:
    data = build()
    assert data.item_ids == ("a", "b", "c", "d")
    assert [case.case_id for case in data.cases] == ["case-u1", "case-u2"]
    assert data.num_left_out == 2  # one interaction, one reference


def test_a_user_without_interactions_is_still_known() -> None:
    assert build().user_ids == ("u1", "u2", "u3", "u4")


def test_references_are_training_pairs_only_on_demand() -> None:
    data = build(include_reference=True)
    assert {"u1-d", "u2-a"} <= set(name_pairs(data, data.train_P2))
    assert not {"u1-d", "u2-a"} & set(name_pairs(build(), build().train_P2))


def test_an_items_table_restricts_the_catalogue() -> None:
    row = {"image": {"bytes": b"", "path": None}, "text": "", "category": "", "image_sha256": ""}
    assert build(items=build_table([{"item_id": item, **row} for item in "acx"], ITEMS)).item_ids == ("a", "c")


def test_features_are_scaled_to_length_one() -> None:
    torch.testing.assert_close(build().features["image"][0], torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(build(image_feature="visual").features["image"][0], torch.tensor([0.0, 1.0]))


def test_tables_without_a_usable_interaction_are_refused() -> None:
    row = {"image": {"bytes": b"", "path": None}, "text": "", "category": "", "image_sha256": ""}
    with pytest.raises(ValueError, match="no item has an embedding"):
        build(items=build_table([{"item_id": "x", **row}], ITEMS))


def draw(pairs: list[tuple[int, int]], batch_size: int, *, num_users: int = 3, num_items: int = 6) -> tuple[torch.Tensor, ...]:
    sampler = build_sampler(torch.tensor(sorted(pairs)), num_users=num_users, num_items=num_items)
    return sample_triples(sampler, batch_size, generator=torch.Generator().manual_seed(0))


def test_positives_were_seen_and_negatives_were_not() -> None:
    pairs = {(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 5)}
    user_B, positive_B, negative_B = draw(list(pairs), 500)
    assert all((user, item) in pairs for user, item in zip(user_B.tolist(), positive_B.tolist(), strict=True))
    assert not any((user, item) in pairs for user, item in zip(user_B.tolist(), negative_B.tolist(), strict=True))
    assert set(negative_B[user_B == 0].tolist()) == {5}
    assert set(positive_B[user_B == 0].tolist()) == {0, 1, 2, 3, 4}


def test_an_item_that_nobody_has_seen_may_be_kept_out_of_the_negatives() -> None:
    pairs = torch.tensor([(0, 0), (0, 1), (1, 5)])
    drawn = {}
    for negatives in ("all", "interacted"):
        sampler = build_sampler(pairs, num_users=2, num_items=6, negatives=negatives)
        user_B, _, negative_B = sample_triples(sampler, 300, generator=torch.Generator().manual_seed(0))
        drawn[negatives] = {user: set(negative_B[user_B == user].tolist()) for user in (0, 1)}
    assert drawn == {"all": {0: {2, 3, 4, 5}, 1: {0, 1, 2, 3, 4}}, "interacted": {0: {5}, 1: {0, 1}}}


def test_sampling_is_uniform_over_users_not_over_interactions() -> None:
    user_B, _, _ = draw([(0, 0), (0, 1), (0, 2), (0, 3), (1, 5)], 2000)
    assert abs(int((user_B == 0).sum()) - 1000) < 100  # 4 of 5 pairs are user 0's; 100 = 4.5 standard deviations


def test_users_are_drawn_without_replacement_when_there_are_enough() -> None:
    user_B, _, _ = draw([(user, user % 6) for user in range(50)], 50, num_users=50)
    assert sorted(user_B.tolist()) == list(range(50))


def test_a_user_who_has_seen_everything_or_nothing_is_never_drawn() -> None:
    user_B, _, _ = draw([(0, item) for item in range(6)] + [(1, 0)], 100)
    assert set(user_B.tolist()) == {1}
    with pytest.raises(ValueError, match="no user has both"):
        draw([(0, item) for item in range(6)], 10)
