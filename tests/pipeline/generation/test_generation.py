"""Drawing: seeds, rejections, resuming, and that copying loads no model. Run: `python -m pytest tests/pipeline/generation`."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline.artifacts import build_table, write_tensors
from pipeline.baselines.pmg.config import SelectionConfig
from pipeline.baselines.pmg.selection import compute_balance
from pipeline.data.cases import Case, select_cases
from pipeline.data.images import encode_png
from pipeline.generation.build import build_method, list_methods
from pipeline.generation.context import AnnotatedImage, GenerationContext, Method
from pipeline.generation.drawing import draw_cases
from pipeline.generation.methods.ip_adapter import ImagePromptMethod
from pipeline.generation.methods.pmg import PmgMethod, PmgPreference
from pipeline.generation.methods.ti import TextualInversionMethod
from pipeline.generation.run import count_cut, share_noise
from pipeline.generation.summary import build_generated, summarise_drawn
from pipeline.looks.read import read_looks
from pipeline.models.diffusion import NOT_FINITE, LookPrompt, NotFiniteError
from pipeline.models.fake import FakeClip, FakeDiffusion
from pipeline.models.lazy import LazyModel
from pipeline.models.look import LookMap, LookShape
from pipeline.models.text_budget import TextBudget
from pipeline.randomness import make_generator
from pipeline.rows import MapResult, Rejection
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, PREFERENCES
from pipeline.work import work_dir
from tests.broken_items import TableImages, draw_halves
from tests.configs import GENERATION, PMG


def make_png(level: int) -> bytes:
    return encode_png(draw_halves((level, 0, 255), 8))


def make_case(index: int, *, truth_id: str | None = "item0", reference_id: str | None = None) -> Case:
    return Case(
        case_id=f"case{index:02d}",
        user_id=f"user{index}",
        reference_id=reference_id or f"item{index % 4}",
        truth_id=truth_id,
        history=("item0",),
        keywords=("neon",),
        keyword_prompt=f"red thing {index}",
        retrieved_prompt=f"blue thing {index}",
        global_prompt=f"neon thing {index}",
        detailed_prompt="draw a neon thing",
    )


def make_items(images: list[bytes], texts: list[str]) -> pa.Table:
    rows = [
        {"item_id": f"item{i}", "image": {"bytes": image, "path": None}, "text": text, "category": "", "image_sha256": f"digest{i}"}
        for i, (image, text) in enumerate(zip(images, texts, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS.build_schema())


def make_context(
    cases: list[Case], *, images: list[bytes] | None = None, texts: list[str] | None = None, negative_prompt: str = ""
) -> GenerationContext:
    folder = Path(os.environ["DVC_ROOT"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text("seed: 7\n")
    write_tensors(folder / "lora.safetensors", {})
    captions = pa.Table.from_pylist([{"item_id": "item1", "caption": "a cat"}], schema=CAPTIONS.build_schema())
    items = make_items(images or [make_png(60 * i) for i in range(4)], texts or ["dog", "cat", "car", "sun"])
    return GenerationContext(
        params=folder / "params.yaml",
        config=replace(GENERATION, negative_prompt=negative_prompt),
        seed=7,
        device=torch.device("cpu"),
        cases=cases,
        items=items,
        images=TableImages(items),
        captions=captions,
        diffusion=LazyModel("fake-1", FakeDiffusion),
        files={"lora": folder / "lora.safetensors"},
    )


def draw(method: str | Method, context: GenerationContext, *, batch_size: int = 3) -> MapResult:
    chosen = build_method(method, context) if isinstance(method, str) else method
    result = draw_cases(chosen, "toy", context.cases, batch_size=batch_size, device=torch.device("cpu"))
    for value in result.values.values():
        assert value.pop("seconds") >= 0
        assert value.pop("peak_memory_mb") > 0
    return result


def read_pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_original_and_truth_copy_the_items_pixels_without_any_model() -> None:
    context = make_context([make_case(i) for i in range(5)])
    context.diffusion = LazyModel("fake-1", lambda: pytest.fail("copying needs no diffusion model"))
    originals, truths = draw("original", context), draw("truth", context)
    assert (read_pixels(originals.values["case02"]["image"]) == read_pixels(make_png(120))).all()
    assert {value["image"] for value in truths.values.values()} == {make_png(0)}


def test_copies_of_the_same_item_are_computed_once() -> None:
    result = draw("original", make_context([make_case(i) for i in range(8)]))
    assert (result.summary.rows_in, result.summary.computed) == (8, 4)


def test_a_case_without_truth_is_rejected_by_truth_alone() -> None:
    context = make_context([make_case(0), make_case(1, truth_id=None)])
    assert draw("truth", context).rejected == {"case01": "The data set knows no truth for this case."}
    assert draw("original", context).rejected == {}


def test_a_broken_or_unknown_item_image_is_rejected_with_its_reason() -> None:
    cases = [make_case(0), make_case(1), make_case(2, reference_id="gone")]
    result = draw("original", make_context(cases, images=[make_png(1), b"", make_png(2), make_png(3)]))
    assert set(result.values) == {"case00"}
    assert "empty (0 bytes)" in result.rejected["case01"]
    assert "gone is not among the items" in result.rejected["case02"]


def test_sd_draws_the_reference_text_and_falls_back_to_the_caption() -> None:
    context = make_context([make_case(i) for i in range(4)], texts=["dog", " ", "", "sun"])
    method = build_method("sd", context)
    assert method.describe(context.cases[1]) == {"prompt": "a cat", "case_id": "case01"}
    result = draw("sd", context)
    assert result.rejected == {"case02": "The reference has neither a text nor a caption."}
    assert context.diffusion.model.num_drawn == 6  # two batches of three, filled up


def test_an_image_depends_on_its_case_and_prompt_but_not_on_the_others() -> None:
    alone = draw("global", make_context([make_case(3)]), batch_size=1)
    shutil.rmtree(work_dir())
    together = draw("global", make_context([make_case(i) for i in range(7)]), batch_size=4)
    assert alone.values["case03"] == together.values["case03"]
    assert len({value["image"] for value in together.values.values()}) == 7


def test_methods_share_the_noise_of_a_case_and_draw_an_equal_prompt_once() -> None:
    case = make_case(0)
    sd = draw("sd", make_context([case], texts=["neon thing 0", "", "", ""]))
    again = draw("global", make_context([case]))
    assert sd.values == again.values
    assert (sd.summary.computed, again.summary.computed) == (1, 0)


TITLE = "Women Summer Boho Floral Print Dress with Pockets"
SIX_WORDS = TextBudget(lambda text: len(text.replace(",", " ").split()), 6)


def bound(context: GenerationContext) -> GenerationContext:
    """Give the context's text encoder six words."""
    diffusion = FakeDiffusion(num_tokens=7)  # and its first token
    diffusion.text_budget = SIX_WORDS
    return replace(context, diffusion=LazyModel("fake-1", lambda: diffusion), budget=LazyModel("", lambda: SIX_WORDS))


def test_sd_draws_what_the_encoder_reads_of_a_long_title_and_counts_it() -> None:
    context = bound(make_context([make_case(0), make_case(1)], texts=[TITLE, "cat", "", ""]))
    method = build_method("sd", context)
    assert method.describe(context.cases[0]) == {"prompt": "Women Summer Boho Floral Print Dress", "case_id": "case00"}
    assert method.describe(context.cases[1]) == {"prompt": "cat", "case_id": "case01"}
    assert count_cut(method, {"case00", "case01"}) == 1
    assert summarise_drawn({}, num_cut=1) == {"num_images": 0, "num_cut": 1}
    assert summarise_drawn({}, num_cut=0) == {"num_images": 0}


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


class OverflowingDiffusion(FakeDiffusion):
    """The second image of every batch is not finite."""

    def draw(self, prompt_BTD: torch.Tensor, **options: object) -> np.ndarray:
        images = super().draw(prompt_BTD, **options)
        raise NotFiniteError(images, np.arange(len(images)) == 1)


def test_an_image_that_is_not_finite_is_rejected_and_the_others_are_kept() -> None:
    cases = [make_case(i) for i in range(3)]
    sound = draw("global", make_context(cases))
    shutil.rmtree(work_dir())
    context = replace(make_context(cases), diffusion=LazyModel("fake-1", OverflowingDiffusion))
    result = draw("global", context, batch_size=3)
    assert result.rejected == {"case01": f"The drawn image is not finite; {NOT_FINITE}"}
    assert result.values["case00"]["image"] == sound.values["case00"]["image"]
    assert result.values["case02"]["image"] == sound.values["case02"]["image"]


def test_pmg_chooses_among_the_candidates_that_are_pictures() -> None:
    method = make_pmg([make_case(0)])
    images = [np.full((8, 8, 3), level, dtype=np.uint8) for level in (10, 200)]
    bad = Rejection("not finite")
    preference = method.preferences["case00"]
    assert (method.choose([bad, images[0], bad, images[1]], preference).image == method.choose(images, preference).image).all()
    assert method.choose([bad, bad], preference) == bad


CHOICE = PMG.selection


def make_pmg(cases: list[Case], *, soft: float = 0.5, selection: SelectionConfig = CHOICE) -> PmgMethod:
    context = make_context(cases)
    soft_Md = np.full((2, FakeDiffusion().token_dim), soft, dtype=np.float32)
    preferences = {case.case_id: PmgPreference((f"neon{i}", "night"), (f"dog{i}",), soft_Md) for i, case in enumerate(cases)}
    return PmgMethod(context, preferences, selection, LazyModel("fake-1", FakeClip))


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


PMG_PARAMS = """models: {selection_clip: hub/clip, dtype: float32}
pmg: {selection: {style_weights: [1], num_images: 1, alpha: 0.5}}
"""


NEEDS = {
    "ragar": "--calibrator",
    "ip_adapter": "--embeddings",
    "ti": "--vectors",
    "ti_retrieved": "--vectors",
    "pmg": "--pmg-preferences",
    "pmg_retrieved": "--pmg-preferences",
}


@pytest.mark.parametrize(("name", "option"), NEEDS.items())
def test_a_method_says_which_file_it_needs(name: str, option: str) -> None:
    context = make_context([])
    context.params.write_text(PMG_PARAMS)
    with pytest.raises(ValueError, match=f"needs {option}"):
        build_method(name, context)


@pytest.mark.parametrize("name", ["sd", "keywords", "retrieved", "global"])
def test_a_negative_prompt_moves_the_image_of_every_method(name: str) -> None:
    cases = [make_case(0)]
    plain, guided = (draw(name, make_context(cases, negative_prompt=words)) for words in ("", "blurry"))
    assert guided.summary.computed == 1  # under a key of its own
    assert plain.values != guided.values


def test_without_a_negative_prompt_the_sampler_is_named_as_before_there_was_one() -> None:
    named = {"steps": 4, "guidance_scale": 2.0, "scheduler": "dpm", "batch_size": 3, "seed": 7}
    assert make_context([]).describe_sampler() == named
    assert make_context([], negative_prompt="blurry").describe_sampler() == {**named, "negative_prompt": "blurry"}


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


def make_image_prompts(*, look_scale: float = 2.0, history: tuple[str, ...] = ("item0", "item2"), **options: object) -> ImagePromptMethod:
    context = make_context([replace(make_case(i), history=history) for i in range(2)], **options)
    context.config = replace(context.config, look_scale=look_scale)
    vectors = np.eye(4, dtype=np.float32)[:3]  # item3 has none
    rows = [{"item_id": f"item{i}", "semantic": vector, "visual": vector, "clip_image": vector} for i, vector in enumerate(vectors)]
    context.embeddings = build_table(rows, EMBEDDINGS)
    torch.manual_seed(0)
    look = LookMap(LOOK_SHAPE).eval()
    return ImagePromptMethod(context, LazyModel("look-1", lambda: look))


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


def test_finished_rows_are_reused_and_another_sampler_draws_again() -> None:
    cases = [make_case(i) for i in range(4)]
    draw("global", make_context(cases))
    again = draw("global", make_context([*cases, make_case(4)]))
    assert (again.summary.computed, again.summary.reused) == (1, 4)
    other = make_context(cases)
    other.config = replace(GENERATION, steps=5)
    assert draw("global", other).summary.computed == 4


def test_a_draw_that_breaks_off_goes_on_to_the_same_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cases = [make_case(i) for i in range(10)]
    broken = make_context(cases)
    model = broken.diffusion.model
    whole = model.draw
    monkeypatch.setattr(model, "draw", lambda *args, **rest: whole(*args, **rest) if model.num_drawn < 6 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw("global", broken)
    resumed = draw("global", make_context(cases))
    assert (resumed.summary.computed, resumed.summary.reused) == (4, 6)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "fresh"))
    assert build_generated("global", resumed.values) == build_generated("global", draw("global", make_context(cases)).values)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_generation as tests
context = tests.make_context([tests.make_case(i) for i in range(10)])
model = context.diffusion.model
whole = model.draw
def draw(*args, **rest):
    if model.num_drawn >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*args, **rest)
model.draw = draw
tests.draw("global", context)
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_of_drawing_loses_no_finished_row() -> None:
    code = KILLED.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = draw("global", make_context([make_case(i) for i in range(10)]))
    assert (resumed.summary.computed, resumed.summary.reused) == (4, 6)


def test_unknown_methods_are_named_with_the_choices() -> None:
    assert list_methods() == [
        "global",
        "ip_adapter",
        "keywords",
        "original",
        "pmg",
        "pmg_retrieved",
        "ragar",
        "retrieved",
        "sd",
        "ti",
        "ti_retrieved",
        "truth",
    ]
    with pytest.raises(ValueError, match="global, ip_adapter, keywords, original, pmg, pmg_retrieved, ragar, retrieved, sd, ti, ti_retrieved, truth"):
        build_method("dall-e", make_context([]))


def make_case_row(case_id: str, split: str) -> dict[str, object]:
    return {"case_id": case_id, "user_id": "u", "split": split, "history": ["item0"], "reference_id": "item1", "truth_id": None}


def test_cases_are_those_of_the_splits_that_have_a_preference() -> None:
    rows = [make_case_row(name, split) for name, split in (("c", "test"), ("a", "test"), ("b", "train"), ("d", "test"))]
    preferences = [
        {
            "case_id": name,
            "keywords": ["x"],
            "counts": [1.0],
            "keyword_prompt": "x",
            "retrieved_prompt": "x",
            "global_prompt": "x",
            "detailed_prompt": "y",
        }
        for name in ("a", "b", "c")
    ]
    tables = (
        pa.Table.from_pylist(rows, schema=CASES.build_schema()),
        pa.Table.from_pylist(preferences, schema=PREFERENCES.build_schema()),
    )
    assert [case.case_id for case in select_cases(*tables, ["test"])] == ["a", "c"]
    with pytest.raises(ValueError, match="no case of the splits val"):
        select_cases(*tables, ["val"])
