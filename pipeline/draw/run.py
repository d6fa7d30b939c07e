"""From a table of requests to a folder of pictures and its manifest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import build_provenance
from pipeline.columns import map_columns
from pipeline.draw.choice import Verdict, choose, explain_choice, judge_candidate
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.looks import Look, find_fault, look_at_all
from pipeline.draw.manifest import CHOSEN, OTHER, REJECTED, build_row, name_file, write_manifest
from pipeline.draw.new_items import ItemModels, NewItem, NewItems, describe_new_items, store_new_item
from pipeline.draw.picture_files import OTHERS, SUFFIXES, Format, convert, list_strangers, prepare_folder, put_picture
from pipeline.draw.pictures import Candidate, Pictures, draw_candidates, list_candidates
from pipeline.draw.requests import Defaults, Rejected, Request, RequestTable, read_requests
from pipeline.draw.scores import Scored, score_candidates
from pipeline.draw.wishes import Wish, find_wishes
from pipeline.json_files import write_json
from pipeline.spreadsheets import write_csv


@dataclass(frozen=True)
class Outcome:
    """What became of a table of requests."""

    num_requests: int
    num_files: int
    num_kept: int  # of the files, those beside which the original is to be kept
    rejected: list[Rejected]
    strangers: list[str]  # pictures in the folder that the manifest does not name


@dataclass(frozen=True)
class Judged:
    """One candidate with its picture and all that is known of it."""

    candidate: Candidate
    picture: bytes
    scored: Scored
    verdict: Verdict


def draw_requests(path: Path, out: Path, run: FinishedRun, defaults: Defaults, picture_format: Format = "png") -> Outcome:
    """Draw a table of requests; every request ends as a file or as a reason."""
    run.check()
    check_place(out, run)
    table = read_requests(path, defaults)
    prepare_folder(out)
    models = ItemModels(run.params)
    wishes, new_items, rejected = resolve_requests(table, run, models)
    candidates = list_candidates(wishes, seed=run.seed)
    pictures = draw_candidates(candidates, run, new_items)
    judged, undrawn = judge_candidates(candidates, pictures, run, new_items, models)
    rejected = sorted([*rejected, *undrawn], key=lambda row: row.number)
    rows = write_pictures(judged, pictures, out, run, new_items, picture_format)
    rows += [build_row(request=row.number, candidate=0, request_id=row.request_id, status=REJECTED, reason=row.reason) for row in rejected]
    rows.sort(key=lambda row: (row["request"], row["candidate"]))
    write_csv(out / "rejected.csv", [vars(row) for row in rejected], ("number", "request_id", "reason"))
    write_manifest(out, rows, build_provenance("draw", seed=run.seed, format=picture_format))
    outcome = summarise(rows, rejected, out, table)
    write_json(out / "summary.json", describe_outcome(outcome))
    return outcome


def check_place(out: Path, run: FinishedRun) -> None:
    """Raise ValueError for a folder that DVC keeps, or a file."""
    place = out.resolve()
    if place.exists() and not place.is_dir():
        raise ValueError(f"--out is {out}, which is a file; name a folder, which is made if it is not there.")
    for folder in run.list_out_folders():
        if place == folder or folder in place.parents or place in folder.parents:
            raise ValueError(f"--out is {out}, but a stage of the pipeline keeps its files in {folder}; name another folder.")


def resolve_requests(table: RequestTable, run: FinishedRun, models: ItemModels) -> tuple[list[Wish], NewItems, list[Rejected]]:
    """Store and describe the pictures that the catalogue lacks, and find the case of every request."""
    rejected = list(table.rejected)
    named: list[tuple[Request, str]] = []
    stored: list[NewItem] = []
    for request in table.requests:
        outcome = store_new_item(request, run) if request.image is not None else request.reference_id
        if isinstance(outcome, NewItem):
            stored.append(outcome)
            named.append((request, outcome.item_id))
        elif request.image is not None:
            rejected.append(Rejected(request.number, request.request_id, outcome))
        else:
            named.append((request, outcome))
    new_items = describe_new_items(stored, run, models)
    failed = [(request, new_items.reasons[item_id]) for request, item_id in named if item_id in new_items.reasons]
    rejected += [Rejected(request.number, request.request_id, f"Of the new picture: {reason}") for request, reason in failed]
    wishes, unknown = find_wishes([pair for pair in named if pair[1] not in new_items.reasons], run, new_items)
    return wishes, new_items, [*rejected, *unknown]


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


def write_pictures(
    judged: Sequence[Sequence[Judged]], pictures: Pictures, out: Path, run: FinishedRun, new_items: NewItems, picture_format: Format
) -> list[dict[str, Any]]:
    """Write the chosen picture of every request, the other candidates into a folder of their own, and return the manifest's rows."""
    texts = map_columns(run.items, "item_id", "text") | map_columns(new_items.items, "item_id", "text")
    rows = []
    for own in judged:
        best = choose([one.verdict for one in own])
        for place, one in enumerate(own):
            request, case = one.candidate.wish.request, one.candidate.case
            called = texts.get(case.reference_id, "") or case.reference_id
            number = "" if place == best else f"candidate-{one.candidate.index + 1}"
            parts = (f"{request.number:05d}", request.request_id, request.user_id, called, request.method, number)
            name = name_file(*parts, suffix=SUFFIXES[picture_format])
            file = name if place == best else f"{OTHERS}/{name}"
            data = convert(one.picture, picture_format)
            put_picture(out / file, data)
            rows.append(
                build_row(
                    request=request.number,
                    candidate=one.candidate.index + 1,
                    request_id=request.request_id,
                    status=CHOSEN if place == best else OTHER,
                    file=file,
                    keep_original=one.verdict.keep_original,
                    reason=explain_choice([other.verdict for other in own], place, best),
                    user_id=request.user_id,
                    user_vector="trained" if one.candidate.wish.is_known_user else "inductive",
                    reference_id=case.reference_id,
                    reference_text=texts.get(case.reference_id, ""),
                    method=request.method,
                    seed=request.seed,
                    prompt=pictures.prompts.get((request.method, case.case_id), ""),
                    keywords=list(case.keywords),
                    retrieved=[{"item_id": item_id, "weight": weight} for item_id, weight in one.candidate.wish.retrieved],
                    caption=one.scored.caption,
                    is_sound=one.verdict.is_sound,
                    shows_the_thing=one.verdict.shows,
                    is_preferred=one.verdict.is_preferred,
                    cs_original=one.scored.cs_original,
                    case_id=case.case_id,
                    image_sha256=hashlib.sha256(data).hexdigest(),
                    **one.scored.scores,
                )
            )
    return rows


def summarise(rows: Sequence[dict[str, Any]], rejected: list[Rejected], out: Path, table: RequestTable) -> Outcome:
    """Count what became of the requests."""
    chosen = [row for row in rows if row["status"] == CHOSEN]
    return Outcome(
        num_requests=len(table.requests) + len(table.rejected),
        num_files=len(chosen),
        num_kept=sum(bool(row["keep_original"]) for row in chosen),
        rejected=rejected,
        strangers=list_strangers(out, {row["file"] for row in rows}),
    )


def describe_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome's counts for a file."""
    reasons = Counter(row.reason for row in outcome.rejected)
    counts = {"requests": outcome.num_requests, "files": outcome.num_files, "keep_original": outcome.num_kept}
    return {**counts, "rejected": len(outcome.rejected), "reasons": dict(sorted(reasons.items()))}
