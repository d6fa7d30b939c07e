"""A request's own start, strength and k: the bytes of a run with these params. Run: python -m pytest tests/pipeline/draw/test_settings.py"""

from __future__ import annotations

import copy
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.data.images import encode_png
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.pictures import draw_candidates, list_candidates
from pipeline.draw.requests import Request, Start
from pipeline.draw.wishes import find_wishes
from pipeline.models.fake import FakeDiffusion
from tests.pipeline.draw.drawing import draw, draw_as_the_run_does
from tests.pipeline.draw.test_wishes import make_new_items
from tests.pipeline.draw.toy_run import ToyRun, draw_disc


def with_params(toy: ToyRun, **values: str) -> ToyRun:
    """Return the same folder as that of a run with other params of generation."""
    text = toy.run.params.read_text()
    for name, value in values.items():
        text = re.sub(rf"^  {name}: .*$", f"  {name}: {value}", text, flags=re.MULTILINE)
    toy.run.params.write_text(text)
    other = copy.copy(toy)
    other.run = FinishedRun(toy.folder)
    return other


@pytest.mark.parametrize("method", ["sd", "keywords"])
def test_a_start_from_the_reference_gives_the_bytes_of_a_run_with_this_start(toy: ToyRun, diffusion: FakeDiffusion, method: str) -> None:
    images = draw_as_the_run_does(with_params(toy, start="reference", strength="0.25"), method)
    shutil.rmtree(Path(os.environ["DVC_ROOT"]) / ".work")
    toy.run.locate_generated(method).unlink()
    own = with_params(toy, start="noise", strength="0.75")
    from_noise = draw_as_the_run_does(own, method)
    reference = toy.cases[1]["reference_id"]
    lines = [
        f"user-1,{reference},{method},{start},{strength}" for start, strength in (("reference", "0.25"), ("reference", ""), ("", ""), ("noise", ""))
    ]
    rows = draw(own, *lines, header="user_id,reference_id,method,start,strength").chosen
    drawn = [(toy.folder / "out" / row["file"]).read_bytes() for row in rows]
    assert drawn[0] == images["case-1"]
    assert drawn[2] == drawn[3] == from_noise["case-1"]
    assert len(set(drawn)) == 3
    assert [(row["start"], row["strength"], row["case_id"]) for row in rows] == [
        ("reference", 0.25, "case-1"), ("reference", 0.75, "case-1"), ("noise", None, "case-1"), ("noise", None, "case-1"),
    ]  # fmt: skip


def test_noise_in_a_run_from_the_reference_gives_the_bytes_of_a_run_from_noise(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    from_noise = draw_as_the_run_does(toy, "sd")
    own = with_params(toy, start="reference", strength="0.25")
    over = draw_as_the_run_does(own, "sd")
    lines = [f"user-1,{toy.cases[1]['reference_id']},{method},{start}" for method, start in (("sd", ""), ("sd", "noise"), ("original", ""))]
    rows = draw(own, *lines, header="user_id,reference_id,method,start").chosen
    assert [(toy.folder / "out" / row["file"]).read_bytes() for row in rows[:2]] == [over["case-1"], from_noise["case-1"]]
    assert [(row["start"], row["strength"]) for row in rows] == [("reference", 0.25), ("noise", None), ("", None)]


def test_a_new_picture_is_drawn_over_and_its_candidates_differ(toy: ToyRun, diffusion: FakeDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    new = make_new_items("new-1", toy=toy)
    new.found[0] = replace(new.found[0], image=encode_png(draw_disc(200)))
    request = Request(2, "", "user-1", (), "new-1", None, "", "", 0, 2, "sd", toy.run.retrieval.k, Start("reference", 0.5))
    wishes, _ = find_wishes([(request, "new-1")], toy.run, new)
    pictures = draw_candidates(list_candidates(wishes, seed=0), toy.run, new)
    assert (len(set(pictures.images.values())), pictures.reasons) == (2, {})


def test_k_changes_what_is_drawn_from_the_history_and_nothing_else(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    reference = toy.cases[1]["reference_id"]
    lines = [f"user-1,{reference},{method},{k}" for method in ("retrieved", "sd") for k in ("", "1")]
    rows = draw(toy, *lines, header="user_id,reference_id,method,k").chosen
    assert [len(row["retrieved"]) for row in rows] == [toy.run.retrieval.k, 1] * 2
    assert rows[0]["prompt"] != rows[1]["prompt"]
    assert rows[2]["image_sha256"] == rows[3]["image_sha256"]
    images = draw_as_the_run_does(toy, "sd")
    assert (toy.folder / "out" / rows[3]["file"]).read_bytes() == images["case-1"]
