"""What the evaluation ranker learns from, and what it learns. Run: python -m pytest tests/pipeline/ranker_check/test_fit.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.ranker_check.fit import CheckTraining, Trained, build_tower, train_check
from pipeline.ranker_check.material import CheckData, build_catalogue, build_data
from pipeline.ranker_check.run import measure_ranks
from pipeline.ranker_check.scoring import CheckScorer, load_check, save_check
from tests.configs import RANKER_CHECK as CONFIG
from tests.pipeline.ranker_check.conftest import LOOKS, build_world, make_interactions

CPU = torch.device("cpu")


def train(data: CheckData, root: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[Trained, CheckTraining]:
    monkeypatch.setenv("DVC_ROOT", str(root))
    return train_check(data, replace(CONFIG, **changes), device=CPU, checkpoint_every=1)


@pytest.fixture(scope="module")
def learned(world: CheckData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, CheckTraining]:
    with pytest.MonkeyPatch.context() as patch:
        return train(world, tmp_path_factory.mktemp("learned"), patch)


def make_scorer(trained: Trained, data: CheckData) -> CheckScorer:
    return CheckScorer(trained.tower, data.catalogue, data.user_ids, torch.cat([data.train_P2, data.held_out_P2]))


def test_the_last_item_of_three_is_held_out_and_what_has_no_vector_is_left_out() -> None:
    catalogue = build_catalogue(["a", "b", "c"], np.eye(3, dtype=np.float32), {"a": "x", "b": "w", "c": "x"})
    assert catalogue.category_N.tolist() == [1, 0, 1]
    data = build_data(make_interactions({"u1": ["c", "a", "c", "lost", "b"], "u0": ["b", "a"], "u2": ["lost"]}), catalogue)
    assert data.user_ids == ("u0", "u1", "u2")
    assert data.train_P2.tolist() == [[0, 0], [0, 1], [1, 0], [1, 2]]
    assert data.held_out_P2.tolist() == [[1, 1]]
    assert data.num_left_out == 2
    with pytest.raises(ValueError, match="no user has looked at an item whose image can be encoded"):
        build_data(make_interactions({"u2": ["lost"]}), catalogue)


def test_it_learns_that_a_look_is_liked_on_one_kind_of_thing_and_not_on_another(world: CheckData, learned: tuple[Trained, CheckTraining]) -> None:
    trained, training = learned
    rank_U, _ = training.rank_held_out()
    assert int((rank_U <= 16).sum()) >= 58  # of 60 users: 22 items of 72 are liked, of which 7 have been trained on
    scorer = make_scorer(trained, world)
    for category in ("animals", "food"):  # items that nobody has seen
        index_L = [scorer.item_index[f"{category}-{look}-00"] for look in range(LOOKS)]
        favourite_U = (scorer.user_UD @ scorer.item_ND[index_L].T).argmax(dim=1)
        wanted_U = (torch.arange(60) + (category == "food")) % LOOKS
        assert int((favourite_U == wanted_U).sum()) >= 58


def test_a_drawn_image_is_ranked_as_the_item_whose_image_it_is(world: CheckData, learned: tuple[Trained, CheckTraining], tmp_path: Path) -> None:
    save_check(tmp_path / "r.safetensors", learned[0].tower.float(), world, config=CONFIG)
    scorer = load_check(tmp_path / "r.safetensors")
    users, exclude = ["u000", "u001"], [["animals-0-01"], []]
    references = ["animals-1-00", "animals-1-00"]  # liked by the second alone
    look_BF = world.catalogue.image_NF[[scorer.item_index["animals-0-00"]] * 2]
    original_B = scorer.rank_original(users, references, exclude=exclude)
    own_BF = world.catalogue.image_NF[[scorer.item_index[one] for one in references]]
    assert scorer.rank_substituted(users, references, own_BF, exclude=exclude).tolist() == original_B.tolist()
    better, worse = scorer.rank_substituted(users, references, look_BF, exclude=exclude).tolist()
    assert better < original_B[0]
    assert worse > original_B[1]
    score_N = scorer.item_ND @ scorer.user_UD[0]  # an independent count
    allowed = [i for i, one in enumerate(world.catalogue.item_ids) if one not in ("animals-0-01", references[0])]
    own = float(scorer.item_ND[scorer.item_index[references[0]]] @ scorer.user_UD[0])
    assert original_B[0] == 1 + sum(float(score_N[i]) >= own for i in allowed)
    with pytest.raises(ValueError, match="does not know 'nobody'"):
        scorer.rank_original(["nobody"], references[:1], exclude=[[]])


def test_a_training_that_goes_on_ends_as_an_undisturbed_one(world: CheckData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    whole, _ = train(world, tmp_path / "whole", monkeypatch, epochs=4)
    take_step = CheckTraining.take_step

    def die(self: CheckTraining, step: int) -> dict[str, float]:
        if step == 2:
            raise Killed
        return take_step(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(CheckTraining, "take_step", die)
        with pytest.raises(Killed):
            train(world, tmp_path / "killed", monkeypatch, epochs=4)
    again, _ = train(world, tmp_path / "killed", monkeypatch, epochs=4)
    assert [row["step"] for row in again.state.curves] == [0, 1, 2, 3, 4]
    assert all(torch.equal(first, second) for first, second in zip(whole.tower.state_dict().values(), again.tower.state_dict().values(), strict=True))


def test_without_two_items_of_any_user_the_untrained_tower_ranks_by_likeness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = build_catalogue(["a", "b"], np.eye(2, dtype=np.float32), {"a": "x", "b": "x"})
    data = build_data(make_interactions({"u0": ["a"], "u1": ["b"]}), catalogue)
    trained, _ = train(data, tmp_path, monkeypatch)
    assert (trained.state.step, trained.best_epoch) == (0, 0)
    before = build_tower(data, CONFIG).state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in trained.tower.state_dict().items())
    scorer = make_scorer(trained, data)
    assert scorer.rank_original(["u0", "u0"], ["a", "b"], exclude=[[], []]).tolist() == [1, 2]


def test_an_item_that_nobody_has_looked_at_is_never_pushed_down(world: CheckData) -> None:
    training = CheckTraining(world, CONFIG, device=CPU)
    assert [world.catalogue.item_ids[index] for index in training.unseen if world.catalogue.item_ids[index].endswith("00")]
    training.image_NF.requires_grad_(True)
    training.compute_loss(training.pair_P2).backward()
    moved = training.image_NF.grad.abs().sum(dim=1) > 0
    assert not moved[training.unseen].any()
    assert moved.any()


def test_the_figures_of_known_ranks() -> None:
    found = measure_ranks(torch.tensor([1, 10, 11, 3] * 3), seed=0)
    assert (found["n"], found["median_rank"], found["recall_at_10"]) == (12, 6.5, 0.75)
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / np.log2(11) + 0 + 0.5) / 4)
    assert found["recall_at_10_low"] < 0.75 < found["recall_at_10_high"]


def test_gradients_are_summed_in_one_order_by_any_number_of_threads() -> None:
    """A gradient large enough to be shared out to threads: where they add to the same row, the last bits differ from one time to the next."""
    data = build_world(num_users=800)
    config = replace(CONFIG, batch_size=2048, embedding_dim=64)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        training = CheckTraining(data, config, device=CPU)
        gradients = set()
        for _ in range(20):
            training.tower.zero_grad()
            training.compute_loss(training.pair_P2[:2048]).backward()
            gradients.add(training.tower.out.weight.grad.numpy().tobytes())
    finally:
        torch.set_num_threads(before)
    assert len(gradients) == 1
