"""From requests to cases: a case of the run as it is, or a new one, whose history is retrieved from and counted by the stages' own functions.

A new case is called after what it is made of, its history and its reference, and so is its noise: the same request gives the same picture in
every table of requests. The first candidate of the run's own seed has the name of the case itself; others add seed and number to it. What else a
request changes, how many items are retrieved or what a picture begins with, stands in the name of the candidate (`name_variation`), but not in
that of its noise: so a run with these settings would draw it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.artifacts import build_table, get_matrix, read_table
from pipeline.data.cases import Case, build_case, map_looks
from pipeline.data.known_ids import KnownIds
from pipeline.data.problems import quote
from pipeline.data.texts import read_item_texts
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.new_items import NewItems
from pipeline.draw.requests import BadRequest, Rejected, Request
from pipeline.fingerprint import compute_fingerprint
from pipeline.keywords.preference import PreferenceBuilder, build_preferences
from pipeline.looks.run import LookBuilder, build_looks
from pipeline.models.diffusion import load_diffusion
from pipeline.models.look import prepare_look_map
from pipeline.models.references import read_reference
from pipeline.models.text_budget import load_text_budget
from pipeline.retrieval.history import NOISE, retrieve_histories
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CASES, INTERACTIONS, RETRIEVED

NEW_CASE, NEW_USER = "new-case-", "new-user-"


@dataclass(frozen=True)
class Wish:
    """A request that can be drawn: its case, what was retrieved for it, and whether ranker and run know user and case."""

    request: Request
    case: Case
    retrieved: tuple[tuple[str, float], ...]  # (item_id, weight), most similar first
    is_known_user: bool
    is_case_of_run: bool
    variation: str = ""  # what stands behind the name of a candidate's noise in its own

    def name_noise(self, index: int, *, seed: int) -> str:
        """Return what the noise of the index-th candidate is named after; `seed` is the run's."""
        is_first = index == 0 and self.request.seed == seed
        return self.case.case_id if is_first else f"{self.case.case_id}/seed-{self.request.seed}/{index}"


class CaseFinder:
    """What the run knows of users and their cases."""

    def __init__(self, run: FinishedRun, new_items: NewItems) -> None:
        self.run, self.new_items = run, new_items
        self.known_items = KnownIds([*run.items["item_id"].to_pylist(), *new_items.items["item_id"].to_pylist()])
        self._cases_of: dict[str, list[dict[str, Any]]] = {}
        for row in run.cases.to_pylist():
            self._cases_of.setdefault(row["user_id"], []).append(row)

    @cached_property
    def _histories(self) -> dict[str, list[str]]:
        histories: dict[str, list[str]] = {}
        for row in read_table(self.run.interactions, INTERACTIONS).to_pylist():  # by user and position
            histories.setdefault(row["user_id"], []).append(row["item_id"])
        return histories

    def find(self, request: Request, reference_id: str) -> tuple[dict[str, Any], bool]:
        """Return the row of the request's case, and whether it is one of the run; BadRequest if user, history or reference is unknown."""
        if reference_id not in self.known_items:
            raise BadRequest(f"The reference: {self.known_items.explain_absence(reference_id)}")
        if request.history:
            return self._build(request, reference_id, list(request.history)), False
        cases = self._cases_of.get(request.user_id, [])
        own = next((row for row in cases if row["reference_id"] == reference_id), None)
        if own is not None:
            return own, True
        history = cases[0]["history"] if cases else self._histories.get(request.user_id)
        if history is None:
            raise BadRequest(f"The user_id {quote(request.user_id)} is not known to the run; give a `history` of item ids.")
        return self._build(request, reference_id, history), False

    def _build(self, request: Request, reference_id: str, history: Sequence[str]) -> dict[str, Any]:
        unknown = next((item_id for item_id in history if item_id not in self.known_items), None)
        if unknown is not None:
            raise BadRequest(f"The history: {self.known_items.explain_absence(unknown)}")
        is_known = not request.history and request.user_id in self._cases_of
        return {
            "case_id": f"{NEW_CASE}{compute_fingerprint(history, reference_id)[:16]}",
            "user_id": request.user_id if is_known else f"{NEW_USER}{compute_fingerprint(history)[:16]}",
            "split": "test",
            "history": list(history),
            "reference_id": reference_id,
            "truth_id": None,
        }


def find_wishes(requests: Sequence[tuple[Request, str]], run: FinishedRun, new_items: NewItems) -> tuple[list[Wish], list[Rejected]]:
    """Return the wishes of (request, reference_id) pairs in their order, and why the others are none."""
    finder, rejected = CaseFinder(run, new_items), []
    found: list[tuple[Request, dict[str, Any], bool]] = []
    for request, reference_id in requests:
        try:
            found.append((request, *finder.find(request, reference_id)))
        except BadRequest as error:
            rejected.append(Rejected(request.number, request.request_id, str(error)))
    known = Preferred(
        {row["case_id"]: row for row in run.preferences.to_pylist()}, group_retrieved(run.retrieved.to_pylist()), map_looks(run.looks), {}
    )
    preferred = {run.retrieval.k: known}
    for k in sorted({request.k for request, _, _ in found} | {run.retrieval.k}):
        has = known if k == run.retrieval.k else Preferred({}, {}, {}, {})
        new = {row["case_id"]: row for request, row, _ in found if request.k == k and row["case_id"] not in has.preferences}
        preferred[k] = has.add(prefer_all(list(new.values()), run, new_items, k=k)) if new else has
    wishes = []
    for request, row, is_of_run in found:
        case_id, own = row["case_id"], preferred[request.k]
        if case_id not in own.preferences:
            rejected.append(Rejected(request.number, request.request_id, own.reasons[case_id]))
            continue
        case = build_case(row, own.preferences[case_id], own.looks.get(case_id, b""))
        is_known = not case.user_id.startswith(NEW_USER)
        wishes.append(Wish(request, case, own.retrieved.get(case_id, ()), is_known, is_of_run, name_variation(request, run)))
    return wishes, rejected


def name_variation(request: Request, run: FinishedRun) -> str:
    """Return what sets a request's pictures apart from those of a run's own settings; empty where nothing does."""
    k = f"/k-{request.k}" if request.k != run.retrieval.k else ""
    start = f"/{request.start.name}-{request.start.strength or 1.0}" if request.start != run.start else ""
    return k + start


@dataclass(frozen=True)
class Preferred:
    """What the stages retrieval and preference say of cases, by case_id, and why some have no preference."""

    preferences: dict[str, dict[str, Any]]
    retrieved: dict[str, tuple[tuple[str, float], ...]]
    looks: dict[str, bytes]
    reasons: dict[str, str]

    def add(self, other: Preferred) -> Preferred:
        """Return both."""
        return Preferred(
            self.preferences | other.preferences, self.retrieved | other.retrieved, self.looks | other.looks, self.reasons | other.reasons
        )


def prefer_all(cases: list[dict[str, Any]], run: FinishedRun, new_items: NewItems, *, k: int) -> Preferred:
    """Retrieve k items for each new case, count keywords, and where the run has look tokens, make those as well."""
    rows, retrieved, reasons = prefer(cases, run, new_items, k=k)
    looks = find_looks(cases, retrieved, run, new_items) if len(run.looks) else {}
    return Preferred({row["case_id"]: row for row in rows}, group_retrieved(retrieved), looks, reasons)


def prefer(
    cases: list[dict[str, Any]], run: FinishedRun, new_items: NewItems, *, k: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, str]]:
    """Retrieve k items and count keywords for new cases: rows of preferences, rows of retrieved, and the reasons of the others by case_id."""
    table = build_table(cases, CASES)
    embeddings, retrieval = centre_on_catalogue(run, new_items)
    retrieved, unretrieved = retrieve_histories(table, embeddings, replace(retrieval, k=k), seed=run.seed)
    builder = PreferenceBuilder(
        run.preference,
        items=pa.concat_tables([run.items, new_items.items]),
        captions=pa.concat_tables([run.captions, new_items.captions]),
        keywords=run.keywords,
        retrieved=build_table(retrieved, RETRIEVED),
        budget=load_text_budget(read_reference(run.params, "diffusion")),
    )
    rows, unpreferred = build_preferences(table, builder)
    return rows, retrieved, {**unpreferred, **unretrieved}


def find_looks(cases: list[dict[str, Any]], retrieved: list[dict[str, Any]], run: FinishedRun, new_items: NewItems) -> dict[str, bytes]:
    """Return the look tokens of new cases by case_id, as the stage preference writes them."""
    centred, _ = centre_on_catalogue(run, new_items)
    visual = pa.concat_tables([table.select(["visual"]) for table in (run.embeddings, new_items.embeddings)])
    items, captions = pa.concat_tables([run.items, new_items.items]), pa.concat_tables([run.captions, new_items.captions])
    builder = LookBuilder(
        run.preference,
        centred.append_column("visual", visual["visual"]),
        read_item_texts(items, captions),
        center=False,
        look=prepare_look_map(run.params).model,
        diffusion=load_diffusion(read_reference(run.params, "diffusion"), device=resolve_device(load_runtime(run.params))),
        num_known=len(run.embeddings),
    )
    rows = build_looks(build_table(cases, CASES), build_table(retrieved, RETRIEVED), builder)
    return {row["case_id"]: row["tokens"].tobytes() for row in rows}


def centre_on_catalogue(run: FinishedRun, new_items: NewItems) -> tuple[pa.Table, Any]:
    """Return the vectors that are retrieved by, those of new items included, and how: new items do not move the catalogue's centre.

    Otherwise the retrieved items of one request would depend on which others stand in the same table.
    """
    semantic_ND, more_MD = get_matrix(run.embeddings, "semantic"), get_matrix(new_items.embeddings, "semantic").reshape(-1, 1)
    more_MD = more_MD.reshape(-1, semantic_ND.shape[1])
    all_ND = np.concatenate([semantic_ND, more_MD])
    if run.retrieval.center:  # as `retrieve_histories` does it, but with the mean of the catalogue alone
        all_ND = all_ND - semantic_ND.mean(axis=0, dtype=np.float64)
        all_ND[np.linalg.norm(all_ND, axis=1) < NOISE] = 0.0
    item_ids = pa.concat_arrays([column.combine_chunks() for column in (run.embeddings["item_id"], new_items.embeddings["item_id"])])
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(all_ND.reshape(-1)), all_ND.shape[1])
    return pa.table({"item_id": item_ids, "semantic": vectors}), replace(run.retrieval, center=False)


def group_retrieved(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[tuple[str, float], ...]]:
    """Return (item_id, weight) of every case, most similar first."""
    grouped: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        grouped.setdefault(row["case_id"], []).append((row["item_id"], row["weight"]))
    return {case_id: tuple(pairs) for case_id, pairs in grouped.items()}
