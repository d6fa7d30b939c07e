"""The pictures of all candidates: those that the run has drawn are taken from its table, the others are drawn by the run's own loop.

The loop (`pipeline/generation/drawing.py`) keeps finished pictures in the run's ledgers: what is drawn once is never drawn again, and a run that
was killed goes on to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from pipeline.data.cases import Case
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.new_items import NewItems
from pipeline.draw.requests import COPYING, Start
from pipeline.draw.wishes import Wish
from pipeline.generation.build import build_method
from pipeline.generation.context import Method
from pipeline.generation.drawing import draw_cases
from pipeline.generation.run import OF_TRUTHS, build_context
from pipeline.table_images import ImageColumn

ONLY_OF_RUN = {
    "ti": "a pseudo-word must be trained for each user (stage ti)",
    "ti_retrieved": "a pseudo-word must be trained for each case (stage ti)",
    "pmg": "the language model is asked for each case (stage pmg)",
    "pmg_retrieved": "the language model is asked for each case (stage pmg)",
    **dict.fromkeys(OF_TRUTHS, "nobody knows it but the data set"),
}


@dataclass(frozen=True)
class Candidate:
    """One picture to choose from: the case that it is drawn for, under the candidate's own name, and what its noise is named after."""

    wish: Wish
    index: int
    case: Case
    noise: str


class AllImages:
    """The images of catalogue and new items."""

    def __init__(self, column: ImageColumn, new: Mapping[str, bytes]) -> None:
        self._column, self._new = column, new

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the encoded image of every key, in the order of `keys`."""
        known = self._column.read([key for key in keys if key not in self._new])
        return {key: self._new[key] if key in self._new else known[key] for key in keys}


def list_candidates(wishes: Sequence[Wish], *, seed: int) -> list[Candidate]:
    """List the candidates of all wishes; `seed` is the run's. Methods that copy a picture have one."""
    return [
        Candidate(wish, index, replace(wish.case, case_id=noise + wish.variation), noise)
        for wish in wishes
        for index in range(1 if wish.request.method in COPYING else wish.request.num_candidates)
        for noise in [wish.name_noise(index, seed=seed)]
    ]


@dataclass(frozen=True)
class Setting:
    """What pictures begin with, and what each candidate's noise is named after, by the candidate's name."""

    start: Start
    noise_of: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Pictures:
    """What became of the candidates, by (method, case_id): PNG bytes or the reason why there are none, and the words that a text encoder read."""

    images: dict[tuple[str, str], bytes] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    prompts: dict[tuple[str, str], str] = field(default_factory=dict)


def draw_candidates(candidates: Sequence[Candidate], run: FinishedRun, new_items: NewItems) -> Pictures:
    """Take or draw the pictures of all candidates, method by method."""
    pictures = Pictures()
    groups: dict[tuple[str, Start], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate.wish.request.method, candidate.wish.request.start), []).append(candidate)
    for (method, start), own in sorted(groups.items(), key=lambda group: str(group[0])):
        cases = {candidate.case.case_id: candidate.case for candidate in own}
        setting = Setting(start, {candidate.case.case_id: candidate.noise for candidate in own})
        images, reasons = draw_method_cases(method, list(cases.values()), run, new_items, setting)
        pictures.images |= {(method, case_id): image for case_id, image in images.items()}
        pictures.reasons |= {(method, case_id): reason for case_id, reason in reasons.items()}
        describing = build_for(method, run, new_items, [], setting) if method not in ONLY_OF_RUN else None
        pictures.prompts |= {(method, case_id): read_prompt(describing, case) for case_id, case in cases.items()}
    return pictures


def read_prompt(method: Method | None, case: Case) -> str:
    """Return what a method says of a case: its prompt, RAGAR's p_g; empty for one that reads no text."""
    described = method.describe(case) if method is not None else None
    if not isinstance(described, dict):
        return ""
    return described.get("prompt", "") or described.get("detailed_prompt", "")


def draw_method_cases(
    method: str, cases: Sequence[Case], run: FinishedRun, new_items: NewItems, setting: Setting
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Take from the run's table what it holds, and draw the other cases: PNG bytes and reasons by case_id."""
    path = run.locate_generated(method)
    stored = ImageColumn(path, "case_id") if path.is_file() else None
    in_table = sorted(case.case_id for case in cases if stored is not None and case.case_id in stored)
    taken = stored.read(in_table) if stored is not None else {}
    lacking = [case for case in cases if case.case_id not in taken]
    if not lacking and not taken:
        return {}, {}
    reasons: dict[str, str] = {}
    if method in ONLY_OF_RUN:
        reason = f"The run has no picture of this case, seed, k and start by the method {method}, and none can be drawn now: {ONLY_OF_RUN[method]}."
        reasons, lacking = dict.fromkeys((case.case_id for case in lacking), reason), []
        if not taken:
            return {}, reasons  # where the run was not asked for the method, what it would be built of is not there
    built = build_for(method, run, new_items, lacking, setting)
    if taken:
        run.check_identity(method, built.identity)
    if not lacking:
        return taken, reasons
    result = draw_cases(built, method, built.context.cases, batch_size=built.context.config.batch_size, device=built.context.device)
    drawn = {str(case_id): value["image"] for case_id, value in result.values.items()}
    return taken | drawn, {str(case_id): reason for case_id, reason in result.rejected.items()}


def build_for(method: str, run: FinishedRun, new_items: NewItems, cases: Sequence[Case], setting: Setting) -> Method:
    """Build a method as the stage does in a run with this setting, for these cases, with the new items among the known."""
    context = build_context(run.params, run.list_method_files(method))
    items = pa.concat_tables([context.items, new_items.items.select(context.items.column_names)])
    captions = None if context.captions is None else pa.concat_tables([context.captions, new_items.captions])
    images = AllImages(run.images, new_items.images)
    seen = (
        None if context.embeddings is None else pa.concat_tables([context.embeddings, new_items.embeddings.select(context.embeddings.column_names)])
    )
    start = setting.start
    config = replace(context.config, start=start.name, strength=start.strength or context.config.strength)
    shared = {name: context.noise_of.get(noise, noise) for name, noise in setting.noise_of.items()}
    made = replace(context, config=config, cases=list(cases), items=items, captions=captions, images=images, embeddings=seen)
    return build_method(method, replace(made, noise_of={**context.noise_of, **shared}))
