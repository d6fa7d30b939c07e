"""All candidates of all requests with what is known of each: scores, caption, looks, and the verdict of the rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.columns import map_columns
from pipeline.draw.choice import Verdict, judge_candidate
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.looks import Look, find_fault, look_at_all
from pipeline.draw.new_items import ItemModels, NewItems
from pipeline.draw.pictures import Candidate, Pictures
from pipeline.draw.requests import Rejected
from pipeline.draw.scores import Scored, score_candidates


@dataclass(frozen=True)
class Judged:
    """One candidate with its picture and all that is known of it."""

    candidate: Candidate
    picture: bytes
    scored: Scored
    verdict: Verdict


def judge_candidates(
    candidates: Sequence[Candidate], pictures: Pictures, run: FinishedRun, new_items: NewItems, models: ItemModels
) -> tuple[list[list[Judged]], list[Rejected]]:
    """Judge the candidates, request by request; a request none of whose candidates could be drawn is rejected."""
    scored = score_candidates(candidates, pictures.images, run, new_items, models)
    known = look_at_items(candidates, run, new_items)
    drawn_looks = look_at_all({"/".join(key): image for key, image in pictures.images.items()})
    texts = map_columns(run.items, "item_id", "text") | map_columns(new_items.items, "item_id", "text")
    captions = map_columns(run.captions, "item_id", "caption") | map_columns(new_items.captions, "item_id", "caption")
    judged: dict[int, list[Judged]] = {}
    rejected: dict[int, Rejected] = {}
    for candidate in candidates:
        request, case = candidate.wish.request, candidate.case
        key = (request.method, case.case_id)
        if key not in scored:
            reason = pictures.reasons.get(key) or "The drawn picture cannot be scored."
            rejected.setdefault(request.number, Rejected(request.number, request.request_id, reason))
            continue
        fault = find_fault(drawn_looks["/".join(key)], known, case.history, case.reference_id)
        called = texts.get(case.reference_id, "").strip() or captions.get(case.reference_id, "")
        verdict = judge_candidate(scored[key], fault=fault, reference_text=called)
        judged.setdefault(request.number, []).append(Judged(candidate, pictures.images[key], scored[key], verdict))
    return list(judged.values()), [row for number, row in rejected.items() if number not in judged]


def look_at_items(candidates: Sequence[Candidate], run: FinishedRun, new_items: NewItems) -> dict[str, Look]:
    """Look at the items that the drawn pictures are compared with."""
    wanted = {item_id for candidate in candidates for item_id in (*candidate.case.history, candidate.case.reference_id)}
    known = run.images.read(sorted(item_id for item_id in wanted if item_id in run.images))
    return look_at_all({**known, **{item_id: image for item_id, image in new_items.images.items() if item_id in wanted}})
