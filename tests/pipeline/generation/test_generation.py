"""Drawing: seeds, rejections, resuming, and that copying loads no model. Run: `python -m pytest tests/pipeline/generation`."""

from __future__ import annotations

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

from pipeline.data.cases import select_cases
from pipeline.generation.build import build_method, list_methods
from pipeline.generation.run import count_cut
from pipeline.generation.summary import build_generated, summarise_drawn
from pipeline.models.diffusion import NOT_FINITE, NotFiniteError
from pipeline.models.fake import FakeDiffusion
from pipeline.models.lazy import LazyModel
from pipeline.schemas import CASES, PREFERENCES
from pipeline.work import work_dir
from tests.configs import GENERATION
from tests.pipeline.generation.toy_cases import TITLE, bound, draw, make_case, make_case_row, make_context, make_png, read_pixels
from tests.small_project import REPO


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


def test_sd_draws_what_the_encoder_reads_of_a_long_title_and_counts_it() -> None:
    context = bound(make_context([make_case(0), make_case(1)], texts=[TITLE, "cat", "", ""]))
    method = build_method("sd", context)
    assert method.describe(context.cases[0]) == {"prompt": "Women Summer Boho Floral Print Dress", "case_id": "case00"}
    assert method.describe(context.cases[1]) == {"prompt": "cat", "case_id": "case01"}
    assert count_cut(method, {"case00", "case01"}) == 1
    assert summarise_drawn({}, num_cut=1) == {"num_images": 0, "num_cut": 1}
    assert summarise_drawn({}, num_cut=0) == {"num_images": 0}


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


PMG_PARAMS = """models: {selection_clip: hub/clip, dtype: float32}
pmg: {selection: {style_weights: [1], num_images: 1, alpha: 0.5}}
"""


NEEDS = {
    "ragar": "--calibrator",
    "ip_adapter": "--embeddings",
    "oracle": "--embeddings",
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
    named = {"steps": 4, "guidance_scale": 2.0, "scheduler": "unipc", "batch_size": 3, "seed": 7}
    assert make_context([]).describe_sampler() == named
    assert make_context([], negative_prompt="blurry").describe_sampler() == {**named, "negative_prompt": "blurry"}


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
import os, signal
from tests.pipeline.generation import toy_cases as tests
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
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = draw("global", make_context([make_case(i) for i in range(10)]))
    assert (resumed.summary.computed, resumed.summary.reused) == (4, 6)


def test_unknown_methods_are_named_with_the_choices() -> None:
    assert list_methods() == [
        "glide",
        "global",
        "ip_adapter",
        "keywords",
        "lavit",
        "oracle",
        "original",
        "pmg",
        "pmg_retrieved",
        "ragar",
        "reconstruction",
        "retrieved",
        "sd",
        "ti",
        "ti_retrieved",
        "truth",
    ]
    with pytest.raises(ValueError, match=", ".join(list_methods())):
        build_method("dall-e", make_context([]))


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
