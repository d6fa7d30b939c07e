"""The method `glide`. Run: python -m pytest tests/pipeline/generation/test_glide.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.data.cases import Case
from pipeline.generation.build import build_method
from pipeline.generation.context import GenerationContext
from pipeline.generation.drawing import draw_cases
from pipeline.generation.methods import glide as glide_module
from pipeline.generation.methods.glide import NO_WEIGHTS
from pipeline.rows import MapResult
from tests.pipeline.generation.toy_cases import make_case, make_context
from tests.tiny_glide import LARGE, save_tiny_glide

PARAMS = """seed: 7
models: {{glide: {reference}, dtype: float32}}
glide: {{sampling: {{steps: {steps}, guidance_scale: 3.0, upsample_steps: 2, upsample_temperature: 0.997}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_glide(tmp_path_factory.mktemp("glide"))


def build_context(cases: list[Case], reference: object, *, steps: int = 2, **rest: object) -> GenerationContext:
    context = make_context(cases, **rest)
    context.params.write_text(PARAMS.format(reference=reference, steps=steps))
    return context


def draw(context: GenerationContext) -> MapResult:
    return draw_cases(build_method("glide", context), "glide", context.cases, batch_size=2, device=context.device)


def test_it_draws_the_references_text_and_finished_rows_come_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [make_case(i) for i in range(3)]
    first = draw(build_context(cases, folder))
    assert (first.summary.computed, len(first.values)) == (3, 3)
    assert first.values["case00"]["image"] != first.values["case01"]["image"]
    monkeypatch.setattr(glide_module, "load_glide", lambda *args, **rest: pytest.fail("a model was loaded for finished rows"))
    again = draw(build_context(cases, folder))
    assert (again.summary.computed, again.summary.reused) == (0, 3)
    assert again.values == first.values


def test_another_number_of_steps_or_another_text_draws_again_and_the_diffusion_models_sampler_does_not(folder: Path) -> None:
    case = [make_case(0)]
    draw(build_context(case, folder))
    assert draw(build_context(case, folder, steps=3)).summary.computed == 1
    assert draw(build_context(case, folder, texts=["nail", "", "", ""])).summary.computed == 1
    assert draw(build_context(case, folder, negative_prompt="blurry")).summary.reused == 1


def test_a_killed_run_goes_on_where_it_was(folder: Path) -> None:
    cases = [make_case(i) for i in range(4)]
    context = build_context(cases, folder)
    context.cases = cases[:2]
    draw(context)
    resumed = draw(build_context(cases, folder))
    assert (resumed.summary.computed, resumed.summary.reused) == (2, 2)


def test_a_title_is_shortened_to_what_glides_own_encoder_reads(folder: Path) -> None:
    """Twelve tokens: `hammer` is one, and so is every other letter."""
    context = build_context([make_case(0)], folder, texts=["hammer hammer abcdefghi xyz", "", "", ""])
    method = build_method("glide", context)
    assert method.describe(make_case(0)) == {"prompt": "hammer hammer abcdefghi", "case_id": "case00"}
    assert method.list_prompts(make_case(0)) == ["hammer hammer abcdefghi xyz"]
    assert method.context.budget.model.reads("hammer hammer abcdefghi xyz") is False


def test_a_reference_without_text_and_caption_is_rejected(folder: Path) -> None:
    cases = [make_case(0), make_case(1)]  # item1 has a caption
    result = draw(build_context(cases, folder, texts=["", "", "", ""]))
    assert result.rejected == {"case00": "The reference has neither a text nor a caption."}
    assert list(result.values) == ["case01"]


def test_without_weights_every_case_says_so() -> None:
    result = draw(build_context([make_case(0), make_case(1)], "null"))
    assert result.rejected == dict.fromkeys(("case00", "case01"), NO_WEIGHTS)
    assert "name the folder that holds base.pt" in NO_WEIGHTS


def test_a_picture_is_as_large_as_the_upsampler_draws(folder: Path) -> None:
    context = build_context([make_case(0)], folder)
    (image,) = build_method("glide", context).draw(context.cases)
    assert image.shape == (LARGE, LARGE, 3)


def test_drawing_over_the_reference_is_refused(folder: Path) -> None:
    context = build_context([make_case(0)], folder)
    context.config = replace(context.config, start="reference")
    with pytest.raises(ValueError, match=r"generation\.start is 'reference', but glide draws from noise alone; set it to noise"):
        build_method("glide", context)


def test_a_folder_without_weights_is_named_when_something_is_drawn(tmp_path: Path) -> None:
    save_tiny_glide(tmp_path / "glide")
    (tmp_path / "glide" / "upsample.pt").unlink()
    with pytest.raises(ValueError, match=r"The GLIDE model '.*glide' cannot be loaded: .*upsample\.pt is missing"):
        draw(build_context([make_case(0)], tmp_path / "glide"))
