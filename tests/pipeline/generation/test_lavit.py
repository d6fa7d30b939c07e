"""The method `lavit`. Run: python -m pytest tests/pipeline/generation/test_lavit.py"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.cases import Case
from pipeline.generation.build import build_method
from pipeline.generation.context import GenerationContext
from pipeline.generation.drawing import draw_cases
from pipeline.generation.methods import lavit as lavit_module
from pipeline.generation.methods.lavit import NO_WEIGHTS
from pipeline.models import folders
from pipeline.models.lavit.model import Lavit
from pipeline.randomness import make_generator
from pipeline.rows import MapResult
from tests.pipeline.generation.toy_cases import make_case, make_context, make_png
from tests.tiny_lavit import CONTEXT, SIZE, save_tiny_lavit

PARAMS = """seed: 7
models: {{lavit: {reference}, dtype: float32}}
lavit:
  prompt_mode: {mode}
  history_items: 2
  sampling: {{language_guidance: 2.0, temperature: 1.0, top_k: 50, top_p: 1.0, min_new_tokens: 4, max_new_tokens: 12, pixels: {pixels},
              width: 16, height: 16, steps: {steps}, guidance_scale: 3.0}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_lavit(tmp_path_factory.mktemp("lavit") / "lavit")


def build_context(
    cases: list[Case], reference: object, *, steps: int = 2, mode: str = "history+ref", pixels: str = "lowres", **rest: object
) -> GenerationContext:
    context = make_context(cases, **rest)
    context.params.write_text(PARAMS.format(reference=reference, steps=steps, mode=mode, pixels=pixels))
    return context


def draw(context: GenerationContext) -> MapResult:
    return draw_cases(build_method("lavit", context), "lavit", context.cases, batch_size=2, device=context.device)


def with_history(case: Case, *items: str) -> Case:
    return replace(case, history=items)


@pytest.mark.parametrize("pixels", ["lowres", "highres"])
def test_it_draws_and_finished_rows_come_back(folder: Path, monkeypatch: pytest.MonkeyPatch, pixels: str) -> None:
    cases = [make_case(i) for i in range(3)]
    first = draw(build_context(cases, folder, pixels=pixels))
    assert (first.summary.computed, len(first.values)) == (3, 3)
    assert first.values["case00"]["image"] != first.values["case01"]["image"]
    assert Image.open(io.BytesIO(first.values["case00"]["image"])).size == (SIZE, SIZE)
    monkeypatch.setattr(lavit_module, "load_lavit", lambda *args, **rest: pytest.fail("a model was loaded for finished rows"))
    again = draw(build_context(cases, folder, pixels=pixels))
    assert (again.summary.computed, again.summary.reused) == (0, 3)
    assert again.values == first.values


def test_a_killed_run_goes_on_to_the_same_pictures(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [make_case(i) for i in range(4)]
    context = build_context(cases, folder)
    context.cases = cases[:2]
    draw(context)
    resumed = draw(build_context(cases, folder))
    assert (resumed.summary.computed, resumed.summary.reused) == (2, 2)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    assert draw(build_context(cases, folder)).values.keys() == resumed.values.keys()
    whole = draw(build_context(cases, folder))
    assert [whole.values[key]["image"] for key in sorted(whole.values)] == [resumed.values[key]["image"] for key in sorted(resumed.values)]


def test_the_newest_pictures_are_shown_oldest_first_then_the_reference(folder: Path) -> None:
    case = with_history(make_case(0), "item1", "item2", "item1", "item3")
    method = build_method("lavit", build_context([case], folder))
    assert method.describe(case) == {
        "title": "dog", "items": ["item1", "item3", "item0"], "pictures": ["digest1", "digest3", "digest0"], "case_id": "case00",
    }  # fmt: skip
    alone = build_method("lavit", build_context([case], folder, mode="ref_only"))
    assert alone.describe(case)["items"] == ["item0"]


def test_what_the_language_model_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures that the user likes, and the reference: as many codes as each has, its own words between them."""
    asked: list[list[object]] = []
    whole = Lavit.write_codes
    monkeypatch.setattr(Lavit, "write_codes", lambda self, parts, *rest: asked.append(parts) or whole(self, parts, *rest))
    case = with_history(make_case(0), "item1", "item2", "item3")
    draw(build_context([case], folder))
    (parts,) = asked
    assert [part for part in parts if isinstance(part, str)] == [
        "Pictures that this user likes:", "A picture of dog in their style, made from this one:",
    ]  # fmt: skip
    assert [isinstance(part, str) for part in parts] == [True, False, False, True, False]


def test_other_pictures_or_words_draw_again_and_the_diffusion_models_sampler_does_not(folder: Path) -> None:
    case = with_history(make_case(0), "item1")
    draw(build_context([case], folder))
    assert draw(build_context([case], folder, negative_prompt="blurry")).summary.reused == 1
    assert draw(build_context([case], folder, mode="ref_only")).summary.computed == 1
    assert draw(build_context([case], folder, steps=3)).summary.computed == 1
    assert draw(build_context([case], folder, texts=["nail", "", "", ""])).summary.computed == 1
    assert draw(build_context([with_history(make_case(0), "item2")], folder)).summary.computed == 1


def test_a_matched_pair_shares_noise_and_what_is_drawn_at_random(folder: Path) -> None:
    """Two users with one history and one reference would get one picture."""
    first, second = make_case(0), replace(make_case(1), reference_id="item0")
    context = build_context([first, second], folder)
    assert draw(context).values["case00"]["image"] != draw(context).values["case01"]["image"]
    shared = replace(context, noise_of={"case01": "case00"})
    values = draw(shared).values
    assert values["case00"]["image"] == values["case01"]["image"]


def test_the_pictures_noise_is_that_of_every_method(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    whole = Lavit.draw_codes
    monkeypatch.setattr(Lavit, "draw_codes", lambda self, *args: seeds.extend(noise.initial_seed() for noise in args[1]) or whole(self, *args))
    context = build_context([make_case(0)], folder)
    build_method("lavit", context).draw(context.cases)
    assert seeds == [make_generator(7, "generation", "case00").initial_seed()]


def test_a_reference_without_text_and_caption_is_rejected(folder: Path) -> None:
    result = draw(build_context([make_case(0), make_case(1)], folder, texts=["", "", "", ""]))  # item1 has a caption
    assert result.rejected == {"case00": "The reference has neither a text nor a caption."}
    assert list(result.values) == ["case01"]


def test_a_case_that_cannot_be_read_or_drawn_says_why_and_the_others_are_as_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [make_png(60 * i) for i in range(3)] + [b"no picture"]
    cases = [make_case(0), with_history(make_case(1), "item3")]
    result = draw(build_context(cases, folder, images=broken))
    assert list(result.values) == ["case00"]
    assert result.rejected["case01"].startswith("The image of item3 cannot be used: ")
    context = build_context([make_case(0), make_case(1)], folder)
    method = build_method("lavit", context)
    expected = method.draw(context.cases)
    whole = method.lavit.model.language.write_codes
    answers = iter([False, True])
    monkeypatch.setattr(method.lavit.model.language, "write_codes", lambda *args: torch.zeros(0, dtype=torch.long) if next(answers) else whole(*args))
    first, second = method.draw(context.cases)
    assert np.abs(first.astype(int) - expected[0]).max() <= 1  # last bits: the other condition has other lengths
    assert second.reason == "LaVIT's language model has written no code of a picture."


def test_an_unknown_item_is_named(folder: Path) -> None:
    case = with_history(make_case(0), "item9")
    assert draw(build_context([case], folder)).rejected == {"case00": "The item item9 is not among the items."}


def test_a_title_is_shortened_to_a_quarter_of_what_the_language_model_reads(folder: Path) -> None:
    title = " ".join(["nail"] * 30)
    method = build_method("lavit", build_context([make_case(0)], folder, texts=[title, "", "", ""]))
    fitted = method.describe(make_case(0))["title"]
    assert fitted == " ".join(["nail"] * 10)  # 49 bytes of 50
    assert len(fitted) <= CONTEXT // 4
    assert method.list_prompts(make_case(0)) == [title]


def test_without_weights_every_case_says_so() -> None:
    result = draw(build_context([make_case(0), make_case(1)], "null"))
    assert result.rejected == dict.fromkeys(("case00", "case01"), NO_WEIGHTS)
    assert "name the hub id rain1011/LaVIT-7B-v2, or a folder" in NO_WEIGHTS


def test_drawing_over_the_reference_is_refused(folder: Path) -> None:
    context = build_context([make_case(0)], folder)
    context.config = replace(context.config, start="reference")
    with pytest.raises(ValueError, match=r"generation\.start is 'reference', but lavit draws from noise alone; set it to noise"):
        build_method("lavit", context)


def test_the_small_lavit_that_nobody_has_trained_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folders, "SHIPPED_DIR", tmp_path)
    with pytest.raises(ValueError, match=r"^embedded/weights/lavit holds no files, train it with the recipes in embedded/$"):
        build_method("lavit", build_context([make_case(0)], "embedded/lavit"))


def test_the_small_lavit_is_put_together_with_the_drawing_models_parts(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its revision follows both."""
    shipped = tmp_path / "shipped"
    for path in folders.list_files(folder):
        name = path.relative_to(folder)
        inside = Path("diffusion", *name.parts[1:]) if name.parts[0] == "pixel_decoding" and len(name.parts) > 2 else Path("lavit", name)
        (shipped / inside).parent.mkdir(parents=True, exist_ok=True)
        (shipped / inside).write_bytes(path.read_bytes())
    monkeypatch.setattr(folders, "SHIPPED_DIR", shipped)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert draw(build_context([make_case(0)], "embedded/lavit")).summary.computed == 1
    before = folders.compute_model_revision("embedded/lavit")
    (shipped / "diffusion" / "scheduler" / "more").write_text("")
    folders.hash_file.cache_clear()
    assert folders.compute_model_revision("embedded/lavit") != before
