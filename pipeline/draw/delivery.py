"""The files of a folder: the chosen pictures, the other candidates, the manifest, the rejected requests and a summary."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import build_provenance
from pipeline.columns import map_columns
from pipeline.draw.choice import choose, explain_choice
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.judging import Judged, judge_candidates
from pipeline.draw.manifest import CHOSEN, OTHER, REJECTED, build_row, name_file, write_manifest
from pipeline.draw.new_items import ItemModels, NewItems
from pipeline.draw.picture_files import OTHERS, SUFFIXES, Format, convert, list_strangers, put_picture
from pipeline.draw.pictures import Pictures, draw_candidates, list_candidates
from pipeline.draw.requests import COPYING, Rejected
from pipeline.draw.wishes import Wish
from pipeline.json_files import write_json
from pipeline.spreadsheets import write_csv


@dataclass(frozen=True)
class Outcome:
    """What became of a table of requests."""

    rows: list[dict[str, Any]]  # of the manifest
    rejected: list[Rejected]
    strangers: list[str]  # pictures in the folder that the manifest does not name

    @property
    def chosen(self) -> list[dict[str, Any]]:
        """The manifest's rows of the chosen pictures."""
        return [row for row in self.rows if row["status"] == CHOSEN]

    @property
    def num_kept(self) -> int:
        """How many of these say that the original is to be kept."""
        return sum(bool(row["keep_original"]) for row in self.chosen)

    @property
    def num_requests(self) -> int:
        """How many requests there were."""
        return len(self.chosen) + len(self.rejected)


def deliver(
    wishes: Sequence[Wish],
    new_items: NewItems,
    rejected: Sequence[Rejected],
    out: Path,
    run: FinishedRun,
    models: ItemModels,
    picture_format: Format = "png",
) -> Outcome:
    """Draw, judge and write; `rejected` are the requests that have failed before. The manifest comes last."""
    candidates = list_candidates(wishes, seed=run.seed)
    pictures = draw_candidates(candidates, run, new_items)
    judged, undrawn = judge_candidates(candidates, pictures, run, new_items, models)
    all_rejected = sorted([*rejected, *undrawn], key=lambda row: row.number)
    rows = write_pictures(judged, pictures, out, run, new_items, picture_format)
    rows += [build_row(request=row.number, candidate=0, request_id=row.request_id, status=REJECTED, reason=row.reason) for row in all_rejected]
    rows.sort(key=lambda row: (row["request"], row["candidate"]))
    outcome = Outcome(rows, all_rejected, list_strangers(out, {row["file"] for row in rows}))
    listed = [{"request": row.number, "request_id": row.request_id, "reason": row.reason} for row in all_rejected]
    write_csv(out / "rejected.csv", listed, ("request", "request_id", "reason"))
    write_json(out / "summary.json", describe_outcome(outcome))
    write_manifest(out, rows, build_provenance("draw", seed=run.seed, format=picture_format))
    return outcome


def describe_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome's counts for a file."""
    reasons = Counter(row.reason for row in outcome.rejected)
    counts = {"requests": outcome.num_requests, "files": len(outcome.chosen), "keep_original": outcome.num_kept}
    return {**counts, "rejected": len(outcome.rejected), "reasons": dict(sorted(reasons.items()))}


def write_pictures(
    judged: Sequence[Sequence[Judged]], pictures: Pictures, out: Path, run: FinishedRun, new_items: NewItems, picture_format: Format
) -> list[dict[str, Any]]:
    """Write the chosen picture of every request, the other candidates into a folder of their own, and return the manifest's rows."""
    texts = map_columns(run.items, "item_id", "text") | map_columns(new_items.items, "item_id", "text")
    rows = []
    for own in judged:
        verdicts = [one.verdict for one in own]
        best = choose(verdicts)
        for place, one in enumerate(own):
            data = convert(one.picture, picture_format)
            file = name_picture(one, texts, is_chosen=place == best, suffix=SUFFIXES[picture_format])
            put_picture(out / file, data)
            rows.append(
                describe_candidate(one, texts)
                | {
                    "status": CHOSEN if place == best else OTHER,
                    "file": file,
                    "reason": explain_choice(verdicts, place, best),
                    "prompt": pictures.prompts.get((one.candidate.wish.request.method, one.candidate.case.case_id), ""),
                    "image_sha256": hashlib.sha256(data).hexdigest(),
                }
            )
    return rows


def name_picture(one: Judged, texts: dict[str, str], *, is_chosen: bool, suffix: str) -> str:
    """Return a picture's path in the folder, e.g. `00012-anna-mug-blue-ragar.png`."""
    request, reference_id = one.candidate.wish.request, one.candidate.case.reference_id
    called = texts.get(reference_id, "") or reference_id
    number = "" if is_chosen else f"candidate-{one.candidate.index + 1}"
    name = name_file(f"{request.number:05d}", request.request_id, request.user_id, called, request.method, number, suffix=suffix)
    return name if is_chosen else f"{OTHERS}/{name}"


def describe_candidate(one: Judged, texts: dict[str, str]) -> dict[str, Any]:
    """Return what the manifest says of a candidate beside its file."""
    wish, case = one.candidate.wish, one.candidate.case
    return build_row(
        request=wish.request.number,
        candidate=one.candidate.index + 1,
        request_id=wish.request.request_id,
        keep_original=one.verdict.keep_original,
        user_id=wish.request.user_id,
        user_vector="trained" if wish.is_known_user else "inductive",
        reference_id=case.reference_id,
        reference_text=texts.get(case.reference_id, ""),
        method=wish.request.method,
        seed=wish.request.seed,
        start="" if wish.request.method in COPYING else wish.request.start.name,
        strength=None if wish.request.method in COPYING else wish.request.start.strength,
        keywords=list(case.keywords),
        retrieved=[{"item_id": item_id, "weight": weight} for item_id, weight in wish.retrieved],
        caption=one.scored.caption,
        is_sound=one.verdict.is_sound,
        shows_the_thing=one.verdict.shows,
        is_preferred=one.verdict.is_preferred,
        cs_original=one.scored.cs_original,
        case_id=one.candidate.noise,
        **one.scored.scores,
    )
