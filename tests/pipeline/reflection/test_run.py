"""Reflection from tables to the trained conditioner. Run: `python -m pytest tests/pipeline/reflection/test_run.py`."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pipeline.conditioning.conditioner import load_conditioner, save_conditioner
from pipeline.reflection.run import plan_cases, run_reflection


def run_world(world):
    plan = plan_cases(world.cases[:8], world.cases[8:], world.tables, world.tools, world.config, seed=1)
    place_of = {case.case_id: place for place, case in enumerate(world.cases)}
    return run_reflection(
        world.conditioner,
        plan,
        world.inputs.select([place_of[case.case_id] for case in plan.list_all()]),
        world.tables,
        world.tools,
        world.config,
        seed=1,
        identity={"models": "fake"},
        checkpoint_every=2,
    )


def test_only_cases_that_a_step_visits_are_gathered(make_world) -> None:
    world = make_world({"num_steps": 2, "batch_cases": 2, "validation_cases": 3})
    plan = plan_cases(world.cases[:8], world.cases[8:], world.tables, world.tools, world.config, seed=1)
    assert len(plan.train) == 4
    assert sorted(index for batch in plan.batches for index in batch) == [0, 1, 2, 3]
    assert len(plan.validation) == 3
    longer = plan_cases(world.cases[:8], world.cases[8:], world.tables, world.tools, dataclasses.replace(world.config, num_steps=8), seed=1)
    assert [plan.train[i] for i in plan.batches[0]] == [longer.train[i] for i in longer.batches[0]]


def test_no_usable_validation_case_is_one_clear_error(world) -> None:
    strangers = [dataclasses.replace(case, user_id="nobody") for case in world.cases[8:]]
    with pytest.raises(ValueError, match="at least one usable validation case, but none of 4 is"):
        plan_cases(world.cases[:8], strangers, world.tables, world.tools, world.config, seed=1)


def test_a_run_trains_and_counts_its_cases(world, tmp_path) -> None:
    before = world.conditioner.calibrator.query.weight.clone()
    world.config = dataclasses.replace(world.config, keep="last")
    state, metrics = run_world(world)
    assert state.step == metrics["num_steps"] == 6
    assert (metrics["train_cases"], metrics["validation_cases"], metrics["skipped_cases"]) == (8, 4, 0)
    assert not torch.equal(world.conditioner.calibrator.query.weight, before)
    save_conditioner(tmp_path / "calibrator.safetensors", world.conditioner, {"seed": 1})
    loaded, facts = load_conditioner(tmp_path / "calibrator.safetensors")
    assert facts["seed"] == 1
    assert torch.equal(loaded(world.inputs).prompt_BTD, world.conditioner(world.inputs).prompt_BTD)


def test_other_tables_start_another_training(make_world) -> None:
    run_world(make_world())
    world = make_world()
    drawn = world.tools.diffusion.num_drawn
    captions = world.tables.captions.set_column(1, "caption", [[f"another {index}" for index in range(world.tables.captions.num_rows)]])
    world.tables = dataclasses.replace(world.tables, captions=captions)
    run_world(world)
    assert world.tools.diffusion.num_drawn > drawn
