"""How often is the advice to keep the original right? Measured where the data set knows what a user wanted to see.

A drawn picture is right if the independent judge, which no ranker and no model that draws has seen, finds the wanted style and the wanted thing
(among its first five guesses) in it. The advice is right if it says "use it" of a right picture and "keep the original" of a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.data.images import decode_drawing
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.judging import Judged, judge_candidates
from pipeline.draw.new_items import ItemModels, describe_new_items
from pipeline.draw.pictures import draw_candidates, list_candidates
from pipeline.draw.requests import Request
from pipeline.draw.wishes import find_wishes
from pipeline.evaluation.run import read_names
from pipeline.models.judge import Judge, load_judge


def measure_flag(run: FinishedRun, split: str, methods: Sequence[str]) -> list[dict[str, object]]:
    """Return a row of counts and shares for every method, and one for all of them."""
    label_of = {row["item_id"]: (row["style"], row["concept"]) for row in run.labels.to_pylist()}
    cases = [row for row in run.cases.to_pylist() if row["split"] == split and row["truth_id"] in label_of]
    reference = read_names(run.params).judge
    if not cases or not reference:
        raise ValueError(f"nobody knows what the users of the split {split} wanted to see, so the flag cannot be checked.")
    judge, models = load_judge(reference), ItemModels(run.params)
    pairs = [(method, row) for method in methods for row in cases]
    own = run.retrieval.k, run.start
    requests = [
        (Request(number, "", row["user_id"], (), row["reference_id"], None, "", "", run.seed, 1, method, *own), row["reference_id"])
        for number, (method, row) in enumerate(pairs, start=1)
    ]
    new_items = describe_new_items([], run, models)
    wishes, _ = find_wishes(requests, run, new_items)
    candidates = list_candidates(wishes, seed=run.seed)
    pictures = draw_candidates(candidates, run, new_items)
    judged, _ = judge_candidates(candidates, pictures, run, new_items, models)
    flat = [one for own in judged for one in own]
    rows = []
    for method in [*methods, "all"]:
        own = [one for one in flat if method in (one.candidate.wish.request.method, "all")]
        truths = [label_of[str(one.candidate.case.truth_id)] for one in own]
        rows.append(count(method, own, judge_pictures(judge, own, truths)))
    return rows


def judge_pictures(judge: Judge, judged: Sequence[Judged], truths: Sequence[tuple[str, str]]) -> list[bool]:
    """Say of every picture whether the judge finds the wanted (style, concept) in it."""
    verdicts = judge.name_images([np.asarray(decode_drawing(one.picture)) for one in judged])
    return [verdict.style == style and concept in verdict.concepts for verdict, (style, concept) in zip(verdicts, truths, strict=True)]


def count(method: str, judged: Sequence[Judged], is_right: Sequence[bool]) -> dict[str, object]:
    """Count how often the flag is right, and what becomes of right and of wrong pictures; 1.0 where there are none of a kind."""
    used = [not one.verdict.keep_original for one in judged]
    both = sum(one and other for one, other in zip(used, is_right, strict=True))
    neither = sum(not one and not other for one, other in zip(used, is_right, strict=True))
    return {
        "method": method,
        "pictures": len(judged),
        "right pictures": sum(is_right),
        "advised to use": sum(used),
        "flag is right": share(both + neither, len(judged)),
        "of those to use, right": share(both, sum(used)),
        "of the right, to use": share(both, sum(is_right)),
        "of the wrong, kept out": share(neither, len(judged) - sum(is_right)),
    }


def share(part: int, whole: int) -> float:
    """Return a share; 1.0 of nothing."""
    return part / whole if whole else 1.0
