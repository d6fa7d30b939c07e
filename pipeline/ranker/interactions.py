"""The ranker's view of the tables: dense indices, features, the training/validation split, and the sampling of training triples.

Choices:
1. The last `validation_items` of every user's history are left out of training and serve early stopping (MICRO splits at random);
   a user keeps at least one training item. References are training pairs only if `include_reference` asks for it.
2. An item without an embedding was rejected upstream: it is left out of the catalogue and of the histories. An item that occurs twice
   in a history counts once, at its first position.
3. Users and items are numbered by sorted id, so that nothing depends on the order of rows.
4. Unseen items are drawn from the whole catalogue (`negatives: all`, MICRO) or from the items that somebody has seen (`interacted`).
   An item that nobody has seen is only ever a negative in the first: its id vector ends at the bottom of every user's list,
   whatever it looks like, and so does a reference that is no training interaction.

Shapes: U users, N items, P pairs (user index, item index), B batch rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.artifacts import get_matrix
from pipeline.ranker.config import Negatives
from pipeline.ranker.graph import normalise_rows
from pipeline.ranker.micro import join_text


@dataclass(frozen=True)
class RankedCase:
    """One reference to be ranked for a user, with the history that is no candidate; all by id."""

    case_id: str
    user_id: str
    reference_id: str
    history: tuple[str, ...]


@dataclass(frozen=True)
class RankerData:
    """Everything that training needs; row i of every feature matrix belongs to `item_ids[i]`."""

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    features: dict[str, Tensor]  # `image` and `text`, (N, F), rows of length 1
    train_P2: Tensor  # unique, sorted
    validation_P2: Tensor
    cases: tuple[RankedCase, ...]  # those whose reference is in the catalogue
    num_left_out: int  # interactions and references whose item has no embedding


@dataclass(frozen=True)
class PairSampler:
    """Training pairs grouped by user, ready for user-uniform sampling."""

    eligible_U: Tensor  # users with at least one seen and one unseen item
    offset_U: Tensor
    count_U: Tensor
    item_P: Tensor
    key_P: Tensor  # user * N + item, ascending
    candidate_C: Tensor  # items that may be drawn as unseen
    num_items: int


def build_ranker_data(
    interactions: pa.Table,
    cases: pa.Table,
    embeddings: pa.Table,
    *,
    image_feature: str,
    text_feature: str,
    validation_items: int,
    include_reference: bool,
    image_text_weight: float = 0.0,
    items: pa.Table | None = None,
) -> RankerData:
    """Build the ranker's data from the tables; `items` restricts the catalogue, which else is every item with an embedding."""
    wanted = None if items is None else set(items["item_id"].to_pylist())
    item_ids = embeddings["item_id"].to_pylist()
    kept = [row for row, item_id in enumerate(item_ids) if wanted is None or item_id in wanted]
    item_index = {item_ids[row]: index for index, row in enumerate(kept)}
    if not item_index:
        raise ValueError("no item has an embedding, so there is nothing to rank.")
    histories = _group_histories(interactions)
    user_ids = sorted({*histories, *cases["user_id"].to_pylist()})
    user_index = {user_id: index for index, user_id in enumerate(user_ids)}
    train, validation, num_left_out = [], [], 0
    for user_id, history in histories.items():
        known = [item_index[item_id] for item_id in dict.fromkeys(history) if item_id in item_index]
        num_left_out += sum(item_id not in item_index for item_id in history)
        num_held_out = max(0, min(validation_items, len(known) - 1))
        cut = len(known) - num_held_out
        train += [(user_index[user_id], index) for index in known[:cut]]
        validation += [(user_index[user_id], index) for index in known[cut:]]
    ranked = [case for case in _list_cases(cases) if case.reference_id in item_index]
    if include_reference:
        train += [(user_index[case.user_id], item_index[case.reference_id]) for case in ranked]
        validation = sorted(set(validation) - set(train))
    if not train:
        raise ValueError("no user has an interaction with an item that has an embedding, so the ranker cannot be trained.")
    text_NT = _read_features(embeddings, text_feature, kept)
    return RankerData(
        user_ids=tuple(user_ids),
        item_ids=tuple(item_index),
        features={
            "image": join_text(_read_features(embeddings, image_feature, kept), text_NT, weight=image_text_weight),
            "text": text_NT,
        },
        train_P2=torch.tensor(sorted(set(train)), dtype=torch.int64).reshape(-1, 2),
        validation_P2=torch.tensor(sorted(validation), dtype=torch.int64).reshape(-1, 2),
        cases=tuple(ranked),
        num_left_out=num_left_out + len(cases) - len(ranked),
    )


def join_embeddings(embeddings: pa.Table, more: pa.Table) -> pa.Table:
    """Return the items of both tables with the columns of both, in the order of the first."""
    place_of = {item_id: row for row, item_id in enumerate(more["item_id"].to_pylist())}
    rows = [(row, place_of[item_id]) for row, item_id in enumerate(embeddings["item_id"].to_pylist()) if item_id in place_of]
    joined = embeddings.take(pa.array([row for row, _ in rows], pa.int64()))
    for name in (name for name in more.column_names if name != "item_id"):
        joined = joined.append_column(more.schema.field(name), more[name].take(pa.array([place for _, place in rows], pa.int64())))
    return joined


def _group_histories(interactions: pa.Table) -> dict[str, list[str]]:
    rows = zip(*(interactions[name].to_pylist() for name in ("user_id", "position", "item_id")), strict=True)
    histories: dict[str, list[str]] = {}
    for user_id, _, item_id in sorted(rows):
        histories.setdefault(user_id, []).append(item_id)
    return histories


def _list_cases(cases: pa.Table) -> list[RankedCase]:
    columns = (cases[name].to_pylist() for name in ("case_id", "user_id", "reference_id", "history"))
    return [RankedCase(case_id, user_id, reference_id, tuple(history)) for case_id, user_id, reference_id, history in zip(*columns, strict=True)]


def _read_features(embeddings: pa.Table, column: str, rows: Sequence[int]) -> Tensor:
    matrix_NF = np.array(get_matrix(embeddings, column)[rows], dtype=np.float32)
    return normalise_rows(torch.from_numpy(matrix_NF))


def build_sampler(train_P2: Tensor, *, num_users: int, num_items: int, negatives: Negatives = "all") -> PairSampler:
    """Group sorted unique pairs by user."""
    count_U = torch.bincount(train_P2[:, 0], minlength=num_users)
    candidate_C = torch.arange(num_items) if negatives == "all" else train_P2[:, 1].unique()
    eligible_U = torch.nonzero((count_U > 0) & (count_U < len(candidate_C))).squeeze(1)
    if not len(eligible_U):
        raise ValueError("no user has both a seen and an unseen item, so no training pair can be drawn.")
    return PairSampler(
        eligible_U=eligible_U,
        offset_U=count_U.cumsum(0) - count_U,
        count_U=count_U,
        item_P=train_P2[:, 1].contiguous(),
        key_P=train_P2[:, 0] * num_items + train_P2[:, 1],
        candidate_C=candidate_C,
        num_items=num_items,
    )


def sample_triples(sampler: PairSampler, batch_size: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw users uniformly (without replacement if there are enough), and for each a seen and an unseen item uniformly -> three (B,)."""
    num_eligible = len(sampler.eligible_U)
    if num_eligible >= batch_size:
        choice_B = torch.randperm(num_eligible, generator=generator)[:batch_size]
    else:
        choice_B = torch.randint(num_eligible, (batch_size,), generator=generator)
    user_B = sampler.eligible_U[choice_B]
    fraction_B = torch.rand(batch_size, generator=generator, dtype=torch.float64)
    seen_B = (fraction_B * sampler.count_U[user_B]).long()
    positive_B = sampler.item_P[sampler.offset_U[user_B] + seen_B]
    negative_B = _draw_candidates(sampler, batch_size, generator)
    while (clash_B := _contains(sampler, user_B, negative_B)).any():
        negative_B[clash_B] = _draw_candidates(sampler, int(clash_B.sum()), generator)
    return user_B, positive_B, negative_B


def _draw_candidates(sampler: PairSampler, count: int, generator: torch.Generator) -> Tensor:
    return sampler.candidate_C[torch.randint(len(sampler.candidate_C), (count,), generator=generator)]


def _contains(sampler: PairSampler, user_B: Tensor, item_B: Tensor) -> Tensor:
    key_B = user_B * sampler.num_items + item_B
    place_B = torch.searchsorted(sampler.key_P, key_B).clamp(max=len(sampler.key_P) - 1)
    return sampler.key_P[place_B] == key_B
