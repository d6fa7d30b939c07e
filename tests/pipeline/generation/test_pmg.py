"""What PMG draws and keeps, and cases that a baseline was not trained for. Run: `python -m pytest tests/pipeline/generation/test_pmg.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.baselines.pmg.config import SelectionConfig
from pipeline.baselines.pmg.selection import compute_balance
from pipeline.data.cases import Case
from pipeline.generation.build import build_method
from pipeline.generation.context import AnnotatedImage
from pipeline.generation.methods.pmg import PmgMethod, PmgPreference
from pipeline.generation.methods.ti import TextualInversionMethod
from pipeline.generation.run import count_cut
from pipeline.generation.summary import summarise_drawn
from pipeline.models.fake import FakeClip, FakeDiffusion
from pipeline.models.lazy import LazyModel
from pipeline.rows import Rejection
from tests.configs import PMG
from tests.pipeline.generation.toy_cases import TITLE, bound, draw, make_case, make_context

CHOICE = PMG.selection


def make_pmg(cases: list[Case], *, soft: float = 0.5, selection: SelectionConfig = CHOICE) -> PmgMethod:
    context = make_context(cases)
    soft_Md = np.full((2, FakeDiffusion().token_dim), soft, dtype=np.float32)
    preferences = {case.case_id: PmgPreference((f"neon{i}", "night"), (f"dog{i}",), soft_Md) for i, case in enumerate(cases)}
    return PmgMethod(context, preferences, selection, LazyModel("fake-1", FakeClip))


def test_pmg_draws_the_taste_behind_a_long_title_and_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(0)
    method = make_pmg([case], selection=replace(CHOICE, style_weights=(1, 2), num_images=1))
    method.context = bound(method.context)
    method.preferences = {case.case_id: PmgPreference(("neon", "night"), (TITLE, "floral"), np.zeros((0, 0), dtype=np.float32))}
    read: list[str] = []
    encode = FakeDiffusion.encode_prompts
    monkeypatch.setattr(FakeDiffusion, "encode_prompts", lambda fake, prompts: (read.extend(prompts), encode(fake, prompts))[1])
    method.draw([case])
    assert read == ["Women Summer Boho, floral, neon, night", "Women, floral, neon, night, neon, night"]
    assert count_cut(method, {case.case_id}) == 1


def test_pmg_chooses_among_the_candidates_that_are_pictures() -> None:
    method = make_pmg([make_case(0)])
    images = [np.full((8, 8, 3), level, dtype=np.uint8) for level in (10, 200)]
    bad = Rejection("not finite")
    preference = method.preferences["case00"]
    assert (method.choose([bad, images[0], bad, images[1]], preference).image == method.choose(images, preference).image).all()
    assert method.choose([bad, bad], preference) == bad


def test_pmg_keeps_the_candidate_with_the_highest_balance() -> None:
    cases = [make_case(i) for i in range(4)]
    method = make_pmg(cases)
    drawn = method.draw(cases)
    assert all(isinstance(image, AnnotatedImage) for image in drawn)
    assert method.context.diffusion.model.num_drawn == 16  # two weights and two noises per case
    assert all(note.facts["selection_score"] >= note.facts["selection_score_first"] for note in drawn)
    assert any(note.facts["selection_score"] > note.facts["selection_score_first"] for note in drawn)
    clip = FakeClip()
    for note, preference in zip(drawn, method.preferences.values(), strict=True):
        vectors = (
            clip.encode_images([Image.fromarray(note.image)]),
            *clip.encode_texts([", ".join(preference.keywords), ", ".join(preference.target)]),
        )
        assert compute_balance(*vectors, alpha=2 / 3).item() == pytest.approx(note.facts["selection_score"])


def test_pmg_without_a_choice_draws_one_image_from_the_noise_that_all_methods_share() -> None:
    case = make_case(0)
    method = make_pmg([case], selection=replace(CHOICE, style_weights=(1,), num_images=1, alpha=0.5))
    method.preferences = {case.case_id: PmgPreference(("neon",), ("dog",), np.zeros((0, 0), dtype=np.float32))}
    plain = build_method("sd", make_context([case], texts=["dog, neon", "", "", ""])).draw([case])[0]
    assert (method.draw([case])[0].image == plain).all()


def test_pmg_depends_on_its_soft_embeddings_and_notes_its_scores() -> None:
    cases = [make_case(i) for i in range(3)]
    first, other = (draw(method, method.context) for method in (make_pmg(cases), make_pmg(cases, soft=-2.0)))
    assert all(first.values[name]["image"] != other.values[name]["image"] for name in first.values)
    figures = summarise_drawn(first.values)
    assert figures["num_images"] == 3
    assert figures["selection_score"] > figures["selection_score_first"]


def test_a_case_that_a_baseline_was_not_trained_for_is_rejected_with_the_reason() -> None:
    context = make_context([make_case(0)])
    assert "No pseudo-word" in draw(TextualInversionMethod(context, {}, "{text}, {style}"), context).rejected["case00"]
    of_cases = TextualInversionMethod(context, {}, "{text}, {style}", owner="case_id")
    assert draw(of_cases, context).rejected == {"case00": "No pseudo-word was learned for this case."}
    assert "named no keywords" in draw(PmgMethod(context, {}, CHOICE, LazyModel("fake-1", FakeClip)), context).rejected["case00"]
