"""Textual Inversion of many users at once: independent of each other, resumable, and it lowers its loss.

Run: `python -m pytest tests/pipeline/baselines/ti`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from pipeline.baselines.ti import run
from pipeline.baselines.ti.config import TextualInversionConfig
from pipeline.baselines.ti.fit import InversionTraining, Picture, list_measured_steps, split_pictures
from pipeline.baselines.ti.run import InversionInputs, build_curves, build_vectors, learn_vectors, list_histories, summarise
from pipeline.models.diffusion import Diffusion, load_diffusion
from pipeline.models.lazy import LazyModel
from pipeline.randomness import make_generator
from pipeline.schemas import CASES
from tests.configs import TI as CONFIG
from tests.tiny_models import save_tiny_stable_diffusion


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    return load_diffusion(str(save_tiny_stable_diffusion(tmp_path_factory.mktemp("models") / "sd")))


def make_inputs(num_users: int = 3, num_images: int = 4) -> InversionInputs:
    histories = {f"u{user}": [f"u{user}i{image}" for image in range(num_images)] for user in range(num_users)}
    items = [item_id for history in histories.values() for item_id in history]
    latents = {item_id: torch.randn(4, 8, 8, generator=make_generator(0, item_id)).half().float() for item_id in items}
    return InversionInputs(histories, {item_id: item_id[-1] for item_id in items}, latents)


def learn(inputs: InversionInputs, diffusion: Diffusion, config: TextualInversionConfig = CONFIG, *, checkpoint_every: int = 2):
    return learn_vectors(
        inputs,
        config,
        diffusion=LazyModel("tiny", lambda: diffusion),
        device=torch.device("cpu"),
        seed=0,
        checkpoint_every=checkpoint_every,
    )


def read_vectors(result) -> dict[str, torch.Tensor]:
    return {row["user_id"]: torch.tensor(row["vectors"]) for row in build_vectors(result)}


def test_users_trained_together_get_the_vectors_that_each_gets_alone(diffusion: Diffusion) -> None:
    inputs = make_inputs()
    together = read_vectors(learn(inputs, diffusion, replace(CONFIG, users_per_batch=3)))
    start = torch.tensor(0.0)
    for user_id, history in inputs.histories.items():
        alone = learn(InversionInputs({user_id: history}, inputs.texts, inputs.latents), diffusion, replace(CONFIG, users_per_batch=1))
        torch.testing.assert_close(read_vectors(alone)[user_id], together[user_id], rtol=1e-4, atol=1e-5)
        start = start + together[user_id].norm()
    assert len({tuple(vector.tolist()) for vector in together.values()}) == 3


def test_vectors_lower_the_loss_on_held_out_images_that_resemble_the_history(diffusion: Diffusion) -> None:
    inputs = make_inputs(2, 5)
    for user_id, history in inputs.histories.items():  # a user whose images are all alike
        inputs.latents.update(dict.fromkeys(history, inputs.latents[f"{user_id}i0"]))
        inputs.texts.update(dict.fromkeys(history, "a"))
    metrics = summarise(learn(inputs, diffusion, replace(CONFIG, num_steps=60, held_out_draws=8)), seed=0)
    assert metrics["held_out_loss"] < metrics["held_out_loss_before"]
    assert metrics["held_out_fall_low"] is None, "of two users there is no interval"
    assert metrics["share_of_users_improved"] == 1.0


def test_a_training_that_breaks_off_goes_on_to_the_same_vectors(diffusion: Diffusion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inputs = make_inputs()
    expected = learn(inputs, diffusion)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "broken"))
    whole, steps = InversionTraining.take_step, []

    def break_off(self: InversionTraining, step: int) -> dict[str, float]:
        steps.append(step)
        if len(steps) == 6 + 6:  # in the second batch
            raise KeyboardInterrupt
        return whole(self, step)

    monkeypatch.setattr(InversionTraining, "take_step", break_off)
    with pytest.raises(KeyboardInterrupt):
        learn(inputs, diffusion)
    assert steps == [*range(6), *range(6)]
    resumed = learn(inputs, diffusion)
    assert steps[12:] == [4, 5]  # it went on from the second checkpoint of the second batch
    assert (resumed.summary.computed, resumed.summary.reused) == (1, 2)
    for user_id, value in expected.values.items():
        assert resumed.values[user_id]["vectors"] == value["vectors"]
        assert resumed.values[user_id]["losses"] == value["losses"]


def test_the_learning_rate_falls_linearly_to_zero(diffusion: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def record(self: torch.optim.AdamW, *names: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *names)

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    learn(make_inputs(1), diffusion, replace(CONFIG, num_steps=4, learning_rate=0.04, users_per_batch=1))
    assert rates == pytest.approx([0.04, 0.03, 0.02, 0.01])


def test_a_checkpoint_of_other_users_is_not_taken(diffusion: Diffusion) -> None:
    inputs = make_inputs(2)
    learn(inputs, diffusion)  # leaves the checkpoint of u0 and u1 at the last step
    others = make_inputs(4)
    kept = {name: others.histories[name] for name in ("u2", "u3")}
    learned = read_vectors(learn(InversionInputs(kept, others.texts, others.latents), diffusion))
    assert not torch.equal(learned["u2"], read_vectors(learn(inputs, diffusion))["u0"])
    assert learn(inputs, diffusion).summary.computed == 0


def test_every_row_knows_its_cost_and_a_reused_one_keeps_it(diffusion: Diffusion) -> None:
    inputs = make_inputs(2)
    first = learn(inputs, diffusion)
    assert all(value["seconds"] > 0 and value["peak_memory_mb"] > 1 for value in first.values.values())
    assert learn(inputs, diffusion).values == first.values


def test_a_user_without_a_readable_image_is_rejected_and_one_with_a_single_image_has_no_held_out_loss(diffusion: Diffusion) -> None:
    inputs = make_inputs(3)
    for item_id in inputs.histories["u0"]:
        del inputs.latents[item_id]
    for item_id in inputs.histories["u1"][1:]:
        del inputs.latents[item_id]
    result = learn(inputs, diffusion)
    assert result.rejected == {"u0": run.NO_IMAGE}
    rows = {row["user_id"]: row for row in build_vectors(result)}
    assert rows["u1"]["held_out_loss"] is None
    assert rows["u2"]["held_out_loss"] > 0
    assert summarise(result, seed=0)["num_users"] == 2


def test_the_curve_has_a_row_a_measurement(diffusion: Diffusion) -> None:
    assert list_measured_steps(CONFIG) == [0, 4, 6]
    assert list_measured_steps(replace(CONFIG, num_steps=8)) == [0, 4, 8]
    curve = build_curves(learn(make_inputs(), diffusion), CONFIG)
    assert [row["step"] for row in curve] == [0, 4, 6]


def test_held_out_images_are_never_trained_on_and_follow_from_the_seed() -> None:
    pictures = [Picture(f"i{index}", torch.zeros(1), "") for index in range(6)]
    split = split_pictures("u", pictures, replace(CONFIG, held_out_images=2), seed=0)
    held_out, train = ({picture.item_id for picture in part} for part in (split.held_out, split.train))
    assert (len(held_out), held_out & train, held_out | train) == (2, set(), {f"i{index}" for index in range(6)})
    assert split == split_pictures("u", pictures, replace(CONFIG, held_out_images=2), seed=0)
    assert len(split_pictures("u", pictures[:1], CONFIG, seed=0).train) == 1


def test_histories_are_those_of_the_splits_users_joined_over_their_cases() -> None:
    rows = [
        {"case_id": name, "user_id": user, "split": split, "history": history, "reference_id": "r", "truth_id": None}
        for name, user, split, history in (("a", "u", "test", ["1", "2", "1"]), ("b", "u", "test", ["3", "1"]), ("c", "v", "train", ["4"]))
    ]
    cases = pa.Table.from_pylist(rows, schema=CASES.build_schema())
    assert list_histories(cases, ["test"]) == {"u": ["1", "2", "3"]}
    with pytest.raises(ValueError, match="no case is of the splits val"):
        list_histories(cases, ["val"])
