"""Drawing with look tokens and over the reference's picture; one noise for a matched pair. Run: `python -m pytest tests/pipeline/generation`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline.artifacts import build_table, write_table
from pipeline.generation.build import build_method
from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.look_method import LookMethod
from pipeline.generation.run import share_noise
from pipeline.looks.read import read_looks
from pipeline.models.diffusion import LookPrompt
from pipeline.models.fake import FakeDiffusion
from pipeline.models.lazy import LazyModel
from pipeline.models.look import LookMap, LookShape
from pipeline.randomness import make_generator
from pipeline.rows import Rejection
from pipeline.schemas import CASES, EMBEDDINGS, LABELS
from tests.pipeline.generation.toy_cases import draw, make_case, make_case_row, make_context, make_items, make_png, read_pixels


def draw_over(strength: float = 0.25, **options: object) -> GenerationContext:
    context = make_context([make_case(i) for i in range(3)], **options)
    context.config = replace(context.config, start="reference", strength=strength)
    return context


@pytest.mark.parametrize("name", ["sd", "keywords", "retrieved", "global"])
def test_every_method_draws_over_the_references_picture_where_that_is_asked_for(name: str) -> None:
    plain = draw(name, make_context([make_case(1)]))
    over = draw(name, draw_over())
    assert over.summary.computed == 3  # under keys of their own
    reference = read_pixels(make_png(60)).astype(float)  # of case 1: item1
    expected = 0.25 * read_pixels(plain.values["case01"]["image"]) + 0.75 * reference
    assert np.abs(read_pixels(over.values["case01"]["image"]) - expected).max() <= 1


def test_copies_are_not_drawn_over_and_a_start_of_noise_changes_no_key() -> None:
    first = draw("original", make_context([make_case(i) for i in range(3)]))
    again = draw("original", draw_over())
    assert (again.summary.computed, again.values) == (0, first.values)
    named = make_context([]).describe_sampler()
    assert draw_over().describe_sampler() == {**named, "start": "reference", "strength": 0.25}


def test_a_picture_that_cannot_be_drawn_over_is_rejected_and_the_others_are_kept() -> None:
    result = draw("global", draw_over(images=[make_png(1), b"", make_png(2), make_png(3)]))
    assert set(result.values) == {"case00", "case02"}
    assert result.rejected["case01"].startswith("The image of item1, which is drawn over, cannot be used: ")


def test_an_image_that_is_drawn_over_another_picture_is_another_row() -> None:
    context = draw_over()
    described = build_method("global", context).describe(context.cases[1])
    assert described == {"prompt": "neon thing 1", "case_id": "case01", "start": "digest1"}


def test_a_matched_pair_starts_from_one_noise_and_words_alone_draw_it_once() -> None:
    cases = [replace(make_case(i), global_prompt="neon thing", reference_id="item1") for i in range(3)]
    context = make_context(cases)
    context.noise_of = {"case01": "case00"}
    result = draw("global", context)
    images = [result.values[case.case_id]["image"] for case in cases]
    assert images[0] == images[1] != images[2]
    assert result.summary.computed == 2


def test_both_cases_of_a_matched_pair_share_the_first_ones_noise_whichever_splits_are_drawn() -> None:
    items = make_items([make_png(i) for i in range(4)], ["dog", "dog", "cat", "cat"])
    rows = [
        {**make_case_row("a", "test"), "truth_id": "item2"},
        {**make_case_row("b", "test"), "history": ["item1"], "truth_id": "item3"},  # the same words, another truth
        {**make_case_row("c", "test"), "history": ["item2"], "truth_id": "item3"},  # other words
        {**make_case_row("d", "train"), "truth_id": "item3"},
    ]
    cases = pa.Table.from_pylist([{**row, "reference_id": "item0"} for row in rows], schema=CASES.build_schema())
    assert share_noise(cases, items, ["test"]) == {"b": "a"}
    assert share_noise(cases, items, ["train", "test"]) == {"b": "a"}


LOOK_SHAPE = LookShape(visual_dim=4, text_dim=8, width=5, num_tokens=2, token_dim=8)


def make_image_prompts(
    name: str = "ip_adapter", *, look_scale: float = 2.0, history: tuple[str, ...] = ("item0", "item2"), truth: str | None = None, **options: object
) -> LookMethod:
    context = make_context([replace(make_case(i), history=history, truth_id=truth) for i in range(2)], **options)
    context.config = replace(context.config, look_scale=look_scale)
    vectors = np.eye(4, dtype=np.float32)[:3]  # item3 has none
    rows = [{"item_id": f"item{i}", "semantic": vector, "visual": vector, "clip_image": vector} for i, vector in enumerate(vectors)]
    context.embeddings = build_table(rows, EMBEDDINGS)
    torch.manual_seed(0)
    look = LookMap(LOOK_SHAPE).eval()
    context.files |= {"embeddings": context.params, "labels": write_labels(context.params.with_name("labels.parquet"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.generation.image_prompts.prepare_look_map", lambda params: LazyModel("look-1", lambda: look))
        method = build_method(name, context)
    assert isinstance(method, LookMethod)
    return method


def write_labels(path: Path) -> Path:
    """Write that items 0, 1 and 3 are in one style, of which 3 has no vector, and item 2 alone in another; 0 and 3 show the same thing."""
    styles, concepts = ("neon", "neon", "sepia", "neon"), ("dog", "cat", "car", "dog")
    rows = [{"item_id": f"item{i}", "style": style, "concept": concept} for i, (style, concept) in enumerate(zip(styles, concepts, strict=True))]
    write_table(path, rows, LABELS, provenance={})
    return path


@torch.no_grad()
def test_ip_adapter_draws_the_references_text_with_the_plain_mean_of_the_last_five_looks() -> None:
    method = make_image_prompts(history=("item2", "item0", "item0", "item3", "item1"))
    assert method.choose_items(method.context.cases[0]) == ["item2", "item0", "item1"]
    look, fake = method.look.model, FakeDiffusion()
    looks = read_looks(look, torch.eye(4)[[2, 0, 1]], ["car", "dog", "cat"], fake)
    tokens = look.image_proj(looks.mean(dim=0, keepdim=True))
    prompt = LookPrompt(tokens, look.no_look_MD, 2.0)
    states = fake.encode_prompts(["dog"])[0]
    config = method.context.config
    generators = [make_generator(7, "generation", "case00")]
    expected = fake.draw(states, generators=generators, steps=config.steps, guidance_scale=config.guidance_scale, look=prompt)
    assert np.abs(method.draw(method.context.cases[:1])[0].astype(int) - expected[0]).max() <= 1


def test_ip_adapter_without_guidance_to_the_look_is_the_plain_text() -> None:
    method = make_image_prompts(look_scale=0.0)
    assert (method.draw(method.context.cases)[0] == draw_plain("sd", method)).all()
    assert not (make_image_prompts().draw(method.context.cases)[0] == draw_plain("sd", method)).all()


def draw_plain(name: str, method: Method) -> np.ndarray:
    return build_method(name, method.context).draw(method.context.cases)[0]


def test_ip_adapter_depends_on_what_it_sees_and_on_its_map() -> None:
    first = make_image_prompts()
    other = make_image_prompts(history=("item0", "item1"))
    case, changed = first.context.cases[0], other.context.cases[0]
    assert first.describe(case) != other.describe(changed)
    assert first.describe(case)["prompt"] == "dog"
    assert (first.identity["look"], first.identity["look_scale"]) == ("look-1", 2.0)
    assert "look_scale" not in build_method("sd", first.context).identity


def test_ip_adapter_rejects_a_case_without_a_picture_or_a_text() -> None:
    blind = make_image_prompts(history=("item3",))
    assert draw(blind, blind.context).rejected["case00"] == "None of the history's pictures has a vector."
    mute = make_image_prompts(texts=["", "cat", "car", "sun"])
    assert draw(mute, mute.context).rejected == {"case00": "The reference has neither a text nor a caption."}


def test_the_oracle_sees_other_things_in_the_truths_style() -> None:
    method = make_image_prompts("oracle", truth="item3")  # a dog, and so is item 0; item 1 is the other one in its style
    assert method.choose_items(method.context.cases[0]) == ["item1"]
    assert method.describe(method.context.cases[0])["called"] == ["cat"]
    assert "prompt" in method.describe(method.context.cases[1])


def test_the_oracle_needs_a_truth_with_a_style_and_pictures_in_it() -> None:
    unknown, lonely = make_image_prompts("oracle"), make_image_prompts("oracle", truth="item2")
    assert unknown.choose_items(unknown.context.cases[0]) == Rejection("The data set knows no truth with a style for this case.")
    assert draw(lonely, lonely.context).rejected["case00"] == "No other thing has a picture in the truth's style."


def test_the_oracle_draws_differently_for_another_style_from_the_same_words() -> None:
    neon, sepia = make_image_prompts("oracle", truth="item0"), make_image_prompts("oracle", truth="item1")
    assert [method.choose_items(method.context.cases[0]) for method in (neon, sepia)] == [["item1"], ["item0"]]
    assert not np.array_equal(neon.draw(neon.context.cases[:1])[0], sepia.draw(sepia.context.cases[:1])[0])


def test_a_reconstruction_is_the_truth_through_the_autoencoder() -> None:
    context = make_context([replace(make_case(i), truth_id=truth) for i, truth in enumerate(("item1", None, "item9"))])
    result = draw("reconstruction", context)
    fake, truth = FakeDiffusion(), Image.fromarray(read_pixels(make_png(60))).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(read_pixels(result.values["case00"]["image"]), fake.decode_latents(fake.encode_images(np.asarray(truth)[None]))[0])
    assert result.rejected == {"case01": "The data set knows no truth for this case.", "case02": "The item item9 is not among the items."}


def test_a_truth_that_cannot_be_decoded_is_rejected_and_the_others_are_kept() -> None:
    cases = [replace(make_case(i), truth_id=f"item{i}") for i in range(3)]
    result = draw("reconstruction", make_context(cases, images=[make_png(1), b"", make_png(2), make_png(3)]))
    assert set(result.values) == {"case00", "case02"}
    assert "cannot be used" in result.rejected["case01"]
