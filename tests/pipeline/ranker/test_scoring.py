"""Substituting an image moves scores and ranks as a rebuilt ranker would. Run: python -m pytest tests/pipeline/ranker/test_scoring.py"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.artifacts import write_tensors
from pipeline.columns import map_columns
from pipeline.metrics.ranking import build_candidate_mask, compute_rank_change
from pipeline.ranker import micro
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import build_model, read_data
from pipeline.ranker.interactions import RankerData
from pipeline.ranker.scoring import RankerScorer, build_scorer, load_ranker, save_ranker


def make_scorer(tables: tuple, config: RankerConfig, *, drift: float = 0.02) -> tuple[RankerData, RankerScorer]:
    """Build a scorer with random weights whose feature table has drifted away from the raw features, as training makes it."""
    data = read_data(*tables, config=config)
    model = build_model(data, config, seed=0, device=torch.device("cpu"))
    with torch.no_grad():
        noise_NF = torch.randn(model.image_embedding.weight.shape, generator=torch.Generator().manual_seed(1))
        model.image_embedding.weight += drift * noise_NF
    ids = {"user_ids": data.user_ids, "item_ids": data.item_ids, "image_feature": config.image_feature}
    return data, build_scorer(model.state_dict(), data.features, data.train_P2, config=config, **ids)


def list_cases(data: RankerData) -> tuple[list[str], list[str], list[tuple[str, ...]]]:
    return [case.user_id for case in data.cases], [case.reference_id for case in data.cases], [case.history for case in data.cases]


def take_images(data: RankerData, item_ids: list[str]) -> Tensor:
    return data.features["image"][[data.item_ids.index(item_id) for item_id in item_ids]]


def take_vectors(embeddings: pa.Table, data: RankerData, item_ids: list[str]) -> Tensor:
    vector_of = map_columns(embeddings, "item_id", "visual")
    return torch.tensor([vector_of[item_id] for item_id in item_ids], dtype=torch.float64)


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_original_image_gives_the_original_score_and_rank(world: Callable, tiny_config: Callable, layers: int, weight: float) -> None:
    tables = world(40, 120)
    data, scorer = make_scorer(tables, tiny_config(item_layers=layers, image_text_weight=weight))
    users, references, histories = list_cases(data)
    images = take_vectors(tables[2], data, references)
    torch.testing.assert_close(scorer.score_substituted(users, references, images), scorer.score_original(users, references), rtol=0, atol=1e-6)
    original = scorer.rank_original(users, references, exclude=histories)
    substituted = scorer.rank_substituted(users, references, images, exclude=histories)
    assert torch.equal(original, substituted)
    assert compute_rank_change(original, substituted).abs().max() == 0
    assert original.float().std() > 0


def test_the_original_image_gives_the_original_score_among_exact_duplicates(world: Callable, tiny_config: Callable) -> None:
    interactions, cases, embeddings = world(40, 120)
    rows = embeddings.to_pylist()
    for row in rows[:40]:  # more duplicates than neighbours
        row["visual"] = rows[0]["visual"]
    data, scorer = make_scorer((interactions, cases, embeddings.from_pylist(rows, schema=embeddings.schema)), tiny_config(), drift=0.0)
    users, items = ["user-000"] * 40, list(data.item_ids[:40])
    substituted = scorer.score_substituted(users, items, take_images(data, items))
    torch.testing.assert_close(substituted, scorer.score_original(users, items), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("num_items", "bound", "weight"), [(400, 1e-3, 0.0), (1500, 3e-4, 0.0), (1500, 3e-4, 0.7)])
def test_the_local_rule_agrees_with_a_rebuild_of_the_graphs(
    world: Callable, tiny_config: Callable, num_items: int, bound: float, weight: float
) -> None:
    tables = world(60, num_items, dim=32)
    data, scorer = make_scorer(tables, tiny_config(embedding_dim=64, num_neighbors=10, image_text_weight=weight))
    users, references, histories = (column[:20] for column in list_cases(data))
    images = take_vectors(tables[2], data, references).flip(0)
    local = scorer.score_substituted(users, references, images)
    local_rank = scorer.rank_substituted(users, references, images, exclude=histories)
    exact, exact_rank = [], []
    for row, (user, reference) in enumerate(zip(users, references, strict=True)):
        rebuilt = scorer.replace_images([reference], images[row : row + 1])
        exact.append(rebuilt.score_original([user], [reference]))
        exact_rank.append(rebuilt.rank_original([user], [reference], exclude=histories[row : row + 1]))
    error = (local - torch.cat(exact)).abs().mean()
    movement = (local - scorer.score_original(users, references)).abs().mean()
    # known for one replaced image: a mean error of 1e-3 in score among 400 items, 1e-4 among 3,000, and below one place in rank
    assert error < bound
    assert error < 0.01 * movement
    assert (local_rank - torch.cat(exact_rank)).abs().float().mean() < 1.0


def test_an_image_is_joined_with_the_text_of_the_item_whose_place_it_takes(world: Callable, tiny_config: Callable) -> None:
    tables = world(40, 120)
    data, scorer = make_scorer(tables, tiny_config(image_text_weight=0.7))
    image_1F, text_1T = take_vectors(tables[2], data, ["item-0007"]), data.features["text"][3:4].double()
    joined_BF = scorer.replace_images(["item-0003"], image_1F).features["image"]
    torch.testing.assert_close(joined_BF[3], torch.cat([image_1F, 0.7 * text_1T], dim=1)[0] / (1 + 0.7**2) ** 0.5, rtol=0, atol=1e-6)
    torch.testing.assert_close(joined_BF[4], scorer.features["image"][4], rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"have shape \(1, 24\), but \(B, 12\) of `visual` is needed"):
        scorer.score_substituted(["user-000"], ["item-0003"], joined_BF[3:4])


class Products(TorchDispatchMode):
    """Note the shape of every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default, torch.ops.aten.addmm.default):
            self.shapes.append(tuple(result.shape))
        return result


def test_thousands_of_images_are_scored_by_one_product_a_graph_and_no_rebuild(
    world: Callable, tiny_config: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, scorer = make_scorer(world(40, 120), tiny_config())
    generator = torch.Generator().manual_seed(7)
    num_images = 3000
    users = [data.user_ids[i] for i in torch.randint(40, (num_images,), generator=generator).tolist()]
    items = [data.item_ids[i] for i in torch.randint(120, (num_images,), generator=generator).tolist()]
    images = torch.randn(num_images, data.features["image"].shape[1], generator=generator)
    with monkeypatch.context() as patch:
        patch.setattr(micro, "build_item_graph", lambda *args, **rest: pytest.fail("a graph was rebuilt"))
        with Products() as products:
            scores = scorer.score_substituted(users, items, images)
    assert products.shapes.count((num_images, 120)) == 2  # cosines to the catalogue, in the raw and in the learned space
    assert len(products.shapes) < 12
    for row in range(0, num_images, 300):
        alone = scorer.score_substituted(users[row : row + 1], items[row : row + 1], images[row : row + 1])
        assert torch.equal(alone, scores[row : row + 1])


def test_a_thousand_images_of_one_reference_agree_with_rebuilt_rankers(world: Callable, tiny_config: Callable) -> None:
    data, scorer = make_scorer(world(60, 400, dim=32), tiny_config(embedding_dim=64, num_neighbors=10))
    case = data.cases[3]
    mixed = torch.rand(1000, 1, generator=torch.Generator().manual_seed(8))
    ends = data.features["image"][torch.randint(400, (1000, 2), generator=torch.Generator().manual_seed(9))]
    images = mixed * ends[:, 0] + (1 - mixed) * ends[:, 1]  # between two items' images
    scores = scorer.score_substituted([case.user_id] * 1000, [case.reference_id] * 1000, images)
    chosen = list(range(0, 1000, 50))
    rebuilt = [scorer.replace_images([case.reference_id], images[row : row + 1]) for row in chosen]
    exact = torch.cat([one.score_original([case.user_id], [case.reference_id]) for one in rebuilt])
    assert (scores[chosen] - exact).abs().mean() < 1e-3
    assert scores[chosen].argmax() == exact.argmax()


def test_a_result_does_not_depend_on_the_other_rows_of_the_batch(world: Callable, tiny_config: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    data, scorer = make_scorer(world(40, 120), tiny_config())
    users, references, histories = list_cases(data)
    images = take_images(data, references).flip(0)
    scores = scorer.score_substituted(users, references, images)
    ranks = scorer.rank_substituted(users, references, images, exclude=histories)
    for rows in ([7], [7, 3, 12], list(range(39, -1, -1))):
        chosen = [users[row] for row in rows], [references[row] for row in rows], images[rows]
        assert torch.equal(scorer.score_substituted(*chosen), scores[rows])
        assert torch.equal(scorer.rank_substituted(*chosen, exclude=[histories[row] for row in rows]), ranks[rows])
    monkeypatch.setattr("pipeline.ranker.graph.BLOCK_ELEMENTS", 400)
    assert torch.equal(scorer.score_substituted(users, references, images), scores)
    assert torch.equal(scorer.rank_substituted(users, references, images, exclude=histories), ranks)


def test_two_users_may_put_different_images_in_the_place_of_one_item(world: Callable, tiny_config: Callable) -> None:
    data, scorer = make_scorer(world(40, 120), tiny_config())
    images = data.features["image"][[5, 60]]
    scores = scorer.score_substituted(["user-001", "user-001"], ["item-0010", "item-0010"], images)
    assert scores[0] != scores[1]
    assert scorer.score_substituted(["user-001"], ["item-0010"], images[1:]) == scores[1]


def test_the_scale_of_an_image_vector_does_not_matter(world: Callable, tiny_config: Callable) -> None:
    data, scorer = make_scorer(world(40, 120), tiny_config())
    image = data.features["image"][60:61]
    unit, scaled = (scorer.score_substituted(["user-001"], ["item-0010"], factor * image) for factor in (1.0, 8.0))
    torch.testing.assert_close(unit, scaled)


def test_the_history_is_no_candidate_but_the_reference_always_is() -> None:
    mask_BN = build_candidate_mask(6, torch.tensor([2, 0]), excluded=[[1, 2, 5], []])
    assert mask_BN.tolist() == [[True, False, True, True, True, False], [True] * 6]
    drawn = build_candidate_mask(6, torch.tensor([2, 0]), excluded=[[1], []], allowed=[[1, 3], [4]])
    assert drawn.tolist() == [[False, False, True, True, False, False], [True, False, False, False, True, False]]


def test_ranks_are_those_of_the_full_score_matrix(world: Callable, tiny_config: Callable) -> None:
    data, scorer = make_scorer(world(40, 120), tiny_config())
    users, references, histories = list_cases(data)
    ranks = scorer.rank_original(users, references, exclude=histories)
    for row, score_N in enumerate(scorer.score_all(users)):
        rivals = [score_N[i] for i, item in enumerate(data.item_ids) if item not in histories[row] and item != references[row]]
        own = score_N[data.item_ids.index(references[row])]
        assert ranks[row] == 1 + sum(bool(score >= own) for score in rivals)


def test_negatives_are_the_same_for_every_method_and_never_history_or_reference(world: Callable, tiny_config: Callable) -> None:
    data, scorer = make_scorer(world(40, 120), tiny_config())
    users, references, histories = list_cases(data)
    keys = [case.case_id for case in data.cases]
    drawn = scorer.draw_negatives(keys, references, exclude=histories, count=99, seed=0)
    again = scorer.draw_negatives(keys[5:6], references[5:6], exclude=histories[5:6], count=99, seed=0)
    assert again[0] == drawn[5]
    for row, negatives in enumerate(drawn):
        assert len(set(negatives)) == 99
        assert not set(negatives) & {references[row], *histories[row]}
    ranks = scorer.rank_original(users, references, exclude=histories, negatives=drawn)
    assert ranks.max() <= 100
    assert (ranks <= scorer.rank_original(users, references, exclude=histories)).all()


def test_mean_and_deviation_are_those_of_a_users_catalogue_scores(world: Callable, tiny_config: Callable) -> None:
    _, scorer = make_scorer(world(40, 120), tiny_config())
    mean_B, std_B = scorer.user_mean_std(["user-003", "user-001"])
    score_BN = scorer.score_all(["user-003", "user-001"])
    torch.testing.assert_close(mean_B, score_BN.mean(dim=1))
    torch.testing.assert_close(std_B, score_BN.std(dim=1, correction=0))


def test_a_saved_ranker_scores_as_before_and_its_file_is_byte_stable(world: Callable, tiny_config: Callable, tmp_path: Path) -> None:
    config = tiny_config()
    data = read_data(*world(40, 120), config=config)
    model = build_model(data, config, seed=0, device=torch.device("cpu"))
    ids = {"user_ids": data.user_ids, "item_ids": data.item_ids, "image_feature": config.image_feature}
    for name in ("a", "b"):
        save_ranker(tmp_path / name, model, data.features, **ids)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = load_ranker(tmp_path / "a")
    direct = build_scorer(model.state_dict(), data.features, data.train_P2, config=config, **ids)
    assert torch.equal(loaded.score_all(data.user_ids), direct.score_all(data.user_ids))
    assert (loaded.user_ids, loaded.item_ids, loaded.image_feature) == (data.user_ids, data.item_ids, "visual")


def test_what_the_ranker_does_not_know_is_named(world: Callable, tiny_config: Callable, tmp_path: Path) -> None:
    data, scorer = make_scorer(world(10, 40), tiny_config())
    image = data.features["image"][:1]
    with pytest.raises(ValueError, match="no user 'nobody'"):
        scorer.score_substituted(["nobody"], ["item-0001"], image)
    with pytest.raises(ValueError, match="no item 'nothing'"):
        scorer.rank_original(["user-001"], ["nothing"], exclude=[[]])
    with pytest.raises(ValueError, match=r"\(B, 12\)"):
        scorer.score_substituted(["user-001"], ["item-0001"], image[:, :5])
    with pytest.raises(ValueError, match="not finite"):
        scorer.score_substituted(["user-001"], ["item-0001"], image * torch.nan)
    write_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="is not a ranker"):
        load_ranker(tmp_path / "other.safetensors")
