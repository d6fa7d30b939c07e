"""What are the vectors of new users worth? Users whom the run knows are ranked by theirs and, as if they were new, by inductive ones.

This is about the ranker that was the reward: the evaluation ranker has one vector for a history, whoever's it is. The task is that of the
ranker's own validation: the last item of a history, held out from training, among all items that the user has not seen.
Two settings: the item vectors as they are (the user's own edges have helped to make them), and those of a user-item graph without the users
that are asked about, a part of them at a time. Weights are the trained ones in both; a ranker trained without these users would be stricter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from pipeline.artifacts import read_table
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.newcomers import Kind, infer_users
from pipeline.metrics.ranking import build_candidate_mask, compute_ranks, compute_recall
from pipeline.ranker.scoring import RankerScorer, build_scorer, load_ranker
from pipeline.schemas import INTERACTIONS

PARTS = 5
CUTOFF = 10


@dataclass(frozen=True)
class HeldOut:
    """One user: what the ranker was trained on, and the items that it was not."""

    user_id: str
    seen: list[str]
    targets: list[str]


def list_held_out(scorer: RankerScorer, run: FinishedRun) -> list[HeldOut]:
    """List the users with items of their history that the ranker was not trained on."""
    seen: dict[str, list[str]] = {}
    for user, item in scorer.model.pair_P2.tolist():
        seen.setdefault(scorer.user_ids[user], []).append(scorer.item_ids[item])
    later: dict[str, list[str]] = {}
    for row in read_table(run.interactions, INTERACTIONS).to_pylist():
        if row["item_id"] in scorer.item_index and row["item_id"] not in seen.get(row["user_id"], ()):
            later.setdefault(row["user_id"], []).append(row["item_id"])
    return [HeldOut(user_id, seen[user_id], targets) for user_id, targets in sorted(later.items()) if user_id in seen]


def measure_users(run: FinishedRun) -> list[dict[str, object]]:
    """Return a row for the trained vectors and for every kind of inductive vector, in both settings."""
    scorer = load_ranker(run.rankers.reward)
    people = list_held_out(scorer, run)
    if not people:
        raise ValueError("no user has an item that was held out from training; set ranker.validation_items above 0.")
    parts = [people[start::PARTS] for start in range(PARTS)]
    without = [leave_users_out(scorer, [person.user_id for person in part]) for part in parts if part]
    rows: list[dict[str, object]] = []
    for kind in ("trained", *get_args(Kind)):
        rows.append(measure_kind(scorer, people, kind) | {"item vectors": "as trained"})
    for kind in get_args(Kind):
        measured = [measure_kind(other, part, kind, trained=scorer) for other, part in zip(without, filter(None, parts), strict=True)]
        weights = [float(row["users"]) for row in measured]
        mean = {name: average([float(row[name]) for row in measured], weights) for name in measured[0] if name not in ("vector", "users")}
        rows.append({"vector": kind, "users": sum(map(int, weights)), **mean, "item vectors": "without these users"})
    return rows


def average(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return the weighted mean."""
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def leave_users_out(scorer: RankerScorer, user_ids: Sequence[str]) -> RankerScorer:
    """Return the ranker with the same weights, but without these users' edges in its user-item graph."""
    left_out = torch.tensor([scorer.user_index[user_id] for user_id in user_ids])
    pair_P2 = scorer.model.pair_P2[~torch.isin(scorer.model.pair_P2[:, 0], left_out)]
    weights = {name: weight.clone() for name, weight in scorer.model.state_dict().items()}
    ids = {"user_ids": scorer.user_ids, "item_ids": scorer.item_ids, "image_feature": scorer.image_feature}
    return build_scorer(weights, scorer.features, pair_P2, config=scorer.model.config, **ids)


@torch.no_grad()
def measure_kind(scorer: RankerScorer, people: Sequence[HeldOut], kind: str, *, trained: RankerScorer | None = None) -> dict[str, object]:
    """Measure one kind of vector; rankings are compared with those of the trained vectors of `trained` (the same ranker by default)."""
    whole = trained or scorer
    own_BN = whole.score_all([person.user_id for person in people])
    score_BN = own_BN if kind == "trained" else (infer_users(scorer, [person.seen for person in people], kind=kind) @ scorer.state.item_ND.T).float()
    recalls, shared = [], []
    for person, own_N, score_N in zip(people, own_BN, score_BN, strict=True):
        seen = [scorer.item_index[item_id] for item_id in person.seen]
        target_B = torch.tensor([scorer.item_index[item_id] for item_id in person.targets])
        mask_BN = build_candidate_mask(len(scorer.item_ids), target_B, excluded=[seen] * len(target_B))
        rank_B = compute_ranks(score_N.expand(len(target_B), -1), target_B, candidate_BN=mask_BN)
        recalls.append(float(compute_recall(rank_B[None], k=CUTOFF)[0]))
        free_N = torch.ones(len(score_N), dtype=torch.bool)
        free_N[seen] = False
        shared.append(share_top(own_N[free_N], score_N[free_N]))
    correlation = compute_rank_correlation(own_BN, score_BN)
    return {
        "vector": kind,
        "users": len(people),
        f"R@{CUTOFF}": sum(recalls) / len(recalls),
        f"shared top {CUTOFF}": sum(shared) / len(shared),
        "rank correlation": float(correlation.mean()),
    }


def share_top(first_N: Tensor, second_N: Tensor) -> float:
    """Return the share of the first ranking's top that is also in the second's."""
    top = [set(score_N.topk(min(CUTOFF, len(score_N))).indices.tolist()) for score_N in (first_N, second_N)]
    return len(top[0] & top[1]) / len(top[0])


def compute_rank_correlation(first_BN: Tensor, second_BN: Tensor) -> Tensor:
    """Compute Spearman's correlation of two rankings, row by row -> (B,)."""
    ranks = [score_BN.argsort(dim=1).argsort(dim=1).double() for score_BN in (first_BN, second_BN)]
    first_BN, second_BN = (rank_BN - rank_BN.mean(dim=1, keepdim=True) for rank_BN in ranks)
    return (first_BN * second_BN).sum(dim=1) / (first_BN.norm(dim=1) * second_BN.norm(dim=1))
