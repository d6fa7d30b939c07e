"""Draw requests from a toy run, and the run's own cases as the run does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.draw.delivery import Outcome
from pipeline.draw.pictures import Setting, build_for
from pipeline.draw.run import draw_requests
from pipeline.generation.build import list_methods
from pipeline.generation.drawing import draw_cases
from tests.pipeline.draw.test_wishes import make_new_items
from tests.pipeline.draw.toy_run import ToyRun

METHODS = tuple(name for name in list_methods() if name != "glide")  # which has files of its own


def draw(toy: ToyRun, *lines: str, header: str = "user_id,reference_id,method", out: str = "out", picture_format: str = "png") -> Outcome:
    path = toy.write_requests([header, *lines])
    return draw_requests(path, toy.folder / out, toy.run, replace(toy.run.build_defaults("sd"), methods=METHODS), picture_format)


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def draw_as_the_run_does(toy: ToyRun, method: str) -> dict[str, bytes]:
    """Draw the run's own cases by the run's own loop, and keep them as its table."""
    built = build_for(method, toy.run, make_new_items(toy=toy), toy.list_test_cases(), Setting(toy.run.start))
    context = built.context
    result = draw_cases(built, method, context.cases, batch_size=context.config.batch_size, device=context.device)
    images = {case_id: value["image"] for case_id, value in result.values.items()}
    toy.write_generated(method, images, built.identity)
    return images
