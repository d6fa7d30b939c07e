"""Training learns, stops early, and resumes to the same bytes. Run: python -m pytest tests/pipeline/ranker/test_fit.py"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.ranker import fit
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import RankerTraining, Trained, build_model, rank_validation, read_data, train_ranker
from pipeline.ranker.interactions import RankerData
from pipeline.ranker.run import measure_ranker
from pipeline.ranker.scoring import build_scorer

CPU = torch.device("cpu")


def train(data: RankerData, config: RankerConfig, *, seed: int = 0) -> Trained:
    return train_ranker(data, config, seed=seed, device=CPU, checkpoint_every=1)


def test_training_puts_validation_items_ahead_of_chance(world: Callable, tiny_config: Callable) -> None:
    config = tiny_config(epochs=10)
    data = read_data(*world(60, 120), config=config)
    untrained = rank_validation(build_model(data, config, seed=0, device=CPU), data)
    trained = train(data, config)
    assert trained.state.curves[-1]["loss"] < trained.state.curves[0]["loss"]
    median = rank_validation(trained.model, data).float().median()
    assert median < 35  # two of six clusters are liked: 40 of 120 items; chance is 57
    assert median < untrained.float().median() - 10


class Killed(BaseException):
    """Stands for a kill in the middle of training."""


def test_a_killed_training_resumes_to_the_same_bytes(world: Callable, tiny_config: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tiny_config(validate_every=3)
    data = read_data(*world(30, 60), config=config)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "undisturbed"))
    whole = train(data, config)

    calls: list[int] = []
    take_step = RankerTraining.take_step

    def fail_after_some(self: RankerTraining, step: int) -> dict[str, float]:
        calls.append(step)
        if len(calls) in (3, 5):  # once before the first validation, once after it
            raise Killed
        return take_step(self, step)

    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "killed"))
    monkeypatch.setattr(RankerTraining, "take_step", fail_after_some)
    for _ in range(2):
        with pytest.raises(Killed):
            train(data, config)
    resumed = train(data, config)
    assert calls == [0, 1, 2, 2, 3, 3, 4, 5]
    assert (resumed.state.curves, resumed.best_epoch) == (whole.state.curves, whole.best_epoch)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_a_finished_training_is_not_done_again(world: Callable, tiny_config: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(epochs=2)
    data = read_data(*world(30, 60), config=config)
    first = train(data, config)
    monkeypatch.setattr(RankerTraining, "take_step", lambda *_: pytest.fail("trained again"))
    again = train(data, config)
    assert all(torch.equal(weight, again.model.state_dict()[name]) for name, weight in first.model.state_dict().items())


def test_training_stops_when_validation_no_longer_improves_and_returns_the_best_weights(
    world: Callable, tiny_config: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(epochs=50, validate_every=1, patience=2)
    data = read_data(*world(30, 60), config=config)
    scores = iter([0.1, 0.3, 0.3, 0.2, 0.1, 0.9])
    seen: list[torch.Tensor] = []

    def fake_recall(rank_VP: torch.Tensor, *, k: int) -> torch.Tensor:
        return torch.full((1,), next(scores) if k == config.selection_k else 0.0)

    def remember(model: torch.nn.Module, *args: object) -> torch.Tensor:
        seen.append(model.user_embedding.weight.detach().clone())
        return torch.ones(1, 1, dtype=torch.int64)

    monkeypatch.setattr(fit, "compute_recall", fake_recall)
    monkeypatch.setattr(fit, "rank_validation", remember)
    trained = train(data, config)
    assert (trained.best_epoch, trained.state.step) == (2, 5)  # three validations without a better one
    assert torch.equal(trained.model.user_embedding.weight, seen[1])


def test_without_validation_items_the_last_weights_are_kept(world: Callable, tiny_config: Callable) -> None:
    config = tiny_config(epochs=3, validation_items=0)
    assert train(read_data(*world(30, 60), config=config), config).best_epoch == 3


def test_momentum_moves_the_feature_tables_between_graph_rebuilds(world: Callable, tiny_config: Callable) -> None:
    config = tiny_config()
    data = read_data(*world(30, 60), config=config)
    moves = []
    for num_batches in (1, 2):
        training = RankerTraining(data, config, seed=0, device=CPU)
        training.num_batches = num_batches
        training.take_step(0)
        moves.append((training.model.image_embedding.weight.detach() - data.features["image"]).abs().sum())
    assert moves[1] > 1.2 * moves[0]


def test_the_learning_rate_decays_by_epoch(world: Callable, tiny_config: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(learning_rate=0.1, decay=0.5, decay_epochs=2, epochs=5)
    rates: list[float] = []

    def record(self: RankerTraining, step: int) -> dict[str, float]:
        rates.append(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        return {}

    monkeypatch.setattr(RankerTraining, "take_step", record)
    train(read_data(*world(10, 30), config=config), config)
    assert rates == pytest.approx([0.1, 0.0707107, 0.05, 0.0353553, 0.025], abs=1e-6)


def test_metrics_state_n_and_cover_validation_items_and_references(world: Callable, tiny_config: Callable) -> None:
    config = tiny_config(epochs=2)
    data = read_data(*world(30, 120), config=config)
    trained = train(data, config)
    ids = {"user_ids": data.user_ids, "item_ids": data.item_ids, "image_feature": config.image_feature}
    scorer = build_scorer(trained.model.state_dict(), data.features, data.train_P2, config=config, **ids)
    metrics = measure_ranker(trained, scorer, data, seed=0)
    assert metrics["validation"]["n"] == metrics["reference"]["n"] == 30
    assert 0 <= metrics["reference"]["recall_at_10"] <= metrics["reference_sampled"]["recall_at_10"] <= 1
    assert (metrics["users"], metrics["items"], metrics["interactions"]) == (30, 120, 30 * 7)


def test_other_features_config_and_seed_start_another_training_and_other_references_do_not(
    world: Callable, tiny_config: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(epochs=1)
    data = read_data(*world(10, 30), config=config)
    train(data, config)
    monkeypatch.setattr(RankerTraining, "take_step", lambda *_: pytest.fail("trained again"))
    train(dataclasses.replace(data, cases=data.cases[1:]), config)
    features = {**data.features, "text": -data.features["text"]}
    for changed in ((dataclasses.replace(data, features=features), config, 0), (data, tiny_config(epochs=1, temperature=0.4), 0), (data, config, 1)):
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            train(changed[0], changed[1], seed=changed[2])


def test_a_loss_that_is_not_finite_is_refused(world: Callable, tiny_config: Callable) -> None:
    config = tiny_config(learning_rate=1e30)
    with pytest.raises(ValueError, match="lower learning_rate"):
        train(read_data(*world(10, 30), config=config), config)
