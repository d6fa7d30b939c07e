"""What reflection gathers of every case. Run: `python -m pytest tests/pipeline/reflection/test_inputs.py`."""

from __future__ import annotations

import dataclasses

import pyarrow.compute as pc
import pytest
import torch

from pipeline.reflection.inputs import build_batch, check_spaces, compute_global_scores, keep_usable
from pipeline.reflection.policy import draw_images, encode_drawings


def test_the_reference_score_is_the_rankers_own_standardised(world) -> None:
    users, references = list(world.train.user_ids), list(world.train.reference_ids)
    mean_B, std_B = world.tools.ranker.user_mean_std(users)
    expected_B = (world.tools.ranker.score_original(users, references) - mean_B) / std_B
    torch.testing.assert_close(world.train.comparator_BC[:, 0], expected_B)


def test_the_global_score_is_that_of_the_image_of_the_global_prompt(world) -> None:
    case = world.cases[0]
    prompt_BTD, _ = world.tools.diffusion.encode_prompts([case.global_prompt])
    images = draw_images(world.tools.diffusion, prompt_BTD[:, None], [case.case_id], seed=1, steps=4, guidance_scale=2.0, batch_size=1)
    feature_BV = encode_drawings(world.tools.encoder, images)[:, 0]
    raw_B = world.tools.ranker.score_substituted([case.user_id], [case.reference_id], feature_BV)
    expected = (raw_B - world.train.mean_B[:1]) / world.train.std_B[:1]
    torch.testing.assert_close(world.train.comparator_BC[:1, 1], expected)


def test_global_images_are_drawn_once(world) -> None:
    drawn = world.tools.diffusion.num_drawn
    first = compute_global_scores(world.cases, world.tools, world.config, seed=1, identity={"models": "fake"})
    assert world.tools.diffusion.num_drawn == drawn  # the world's own gathering has drawn them
    other_loss = dataclasses.replace(world.config, sigma=0.9, reward="rank")
    assert torch.equal(compute_global_scores(world.cases, world.tools, other_loss, seed=1, identity={"models": "fake"}), first)
    assert world.tools.diffusion.num_drawn == drawn
    compute_global_scores(world.cases[:1], world.tools, world.config, seed=1, identity={"models": "other"})
    assert world.tools.diffusion.num_drawn > drawn


def test_retrieved_preferences_are_the_weighted_sum_of_features(world) -> None:
    matrix = torch.tensor(world.tables.embeddings["clip_image"].to_pylist())
    torch.testing.assert_close(world.train.retrieved_BV[3], 0.5 * matrix[3] + 0.5 * matrix[4])


def test_without_retrieved_rows_a_case_has_no_retrieved_preference(world) -> None:
    retrieved = world.tables.retrieved.filter(pc.not_equal(world.tables.retrieved["case_id"], "case01"))
    tables = dataclasses.replace(world.tables, retrieved=retrieved)
    batch = build_batch(world.cases, world.inputs, tables, world.tools, world.config, seed=1, identity={"models": "fake"})
    assert batch.has_retrieved_B.tolist() == [index != 1 for index in range(len(world.cases))]


def test_cases_that_cannot_be_scored_or_compared_are_left_out(world) -> None:
    captions = world.tables.captions.filter(pc.not_equal(world.tables.captions["item_id"], "item00"))
    tables = dataclasses.replace(world.tables, captions=captions)
    stranger = dataclasses.replace(world.cases[1], case_id="new", user_id="nobody")
    kept = keep_usable([*world.cases[:3], stranger], tables, world.tools)
    assert [case.case_id for case in kept] == ["case01", "case02"]


def test_raw_scores_are_an_option(world) -> None:
    config = dataclasses.replace(world.config, standardise_scores=False)
    batch = build_batch(world.cases, world.inputs, world.tables, world.tools, config, seed=1, identity={"models": "fake"})
    users, references = list(batch.user_ids), list(batch.reference_ids)
    torch.testing.assert_close(batch.comparator_BC[:, 0], world.tools.ranker.score_original(users, references))


def test_features_of_another_space_are_refused_with_the_way_out(world) -> None:
    batch = dataclasses.replace(world.train, retrieved_BV=torch.ones(8, 7))
    with pytest.raises(ValueError, match="'clip_image', or calibration 'literal'"):
        check_spaces(batch, world.tools, world.config)
    check_spaces(world.train, world.tools, world.config)


def test_literal_readings_need_vectors_as_wide_as_a_token(world) -> None:
    literal = dataclasses.replace(world.config, calibration="literal")
    with pytest.raises(ValueError, match=r"P\^ret \(clip_image\) has width 5 and the rows of P\^gen have 8; use 'pooled'"):
        check_spaces(world.train, world.tools, literal)
    check_spaces(dataclasses.replace(world.train, retrieved_BV=torch.ones(8, 8)), world.tools, literal)
    check_spaces(dataclasses.replace(world.train, has_retrieved_B=torch.zeros(8, dtype=torch.bool)), world.tools, literal)
    literal = dataclasses.replace(world.config, semantic="literal")
    with pytest.raises(ValueError, match=r"E_N\^sem has width 5 and the rows of E\^d have 8; use 'mapped'"):
        check_spaces(world.train, world.tools, literal)


def test_the_references_semantic_vector_is_that_of_equation_2(world) -> None:
    matrix = torch.tensor(world.tables.embeddings["semantic"].to_pylist())
    assert torch.equal(world.train.semantic_BV, matrix[:8])  # case n has reference item n
