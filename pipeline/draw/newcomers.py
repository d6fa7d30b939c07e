"""Rankers that know newcomers: users by an inductive vector from their history, and references in the place of the item that is most like them.

For the evaluation ranker nobody is new, for none of its weights belongs to a single user or item (`pipeline/ranker_check/newcomers.py`): a user
is the sum of their history, and a new reference is one more item, of its own category. In the reward's ranker a user's vector is a
parameter, which somebody new has not. What stands in for it is computed from the trained item vectors alone:

| kind | vector |
|---|---|
| `items` | the mean of the final vectors of the history's items |
| `neighbours` | MICRO's own propagation for a node with these neighbours, its unknown id vector 0 |
| `filled` | the same, the unknown id vector filled with the mean id vector of the history's items |

`python -m pipeline.draw.measure users` says what each is worth beside the trained vectors. A score is a dot product, so only a vector's direction
decides a ranking.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.artifacts import get_matrix
from pipeline.columns import map_columns
from pipeline.ranker.graph import propagate_interactions
from pipeline.ranker.scoring import RankerScorer
from pipeline.ranker_check.scoring import CheckScorer
from pipeline.retrieval.index import to_unit_rows

Kind = Literal["items", "neighbours", "filled"]
KIND: Kind = "filled"


def add_users(scorer: RankerScorer, histories: Mapping[str, Sequence[str]], *, kind: Kind = KIND) -> RankerScorer:
    """Return a scorer that knows these users as well; items that the ranker does not know are left out of a history."""
    new = {user_id: history for user_id, history in histories.items() if user_id not in scorer.user_index}
    if not new:
        return scorer
    other = copy.copy(scorer)
    other.user_ids = (*scorer.user_ids, *new)
    other.user_index = {user_id: index for index, user_id in enumerate(other.user_ids)}
    other.state = replace(scorer.state, user_UD=torch.cat([scorer.state.user_UD, infer_users(scorer, list(new.values()), kind=kind)]))
    return other


@torch.no_grad()
def infer_users(scorer: RankerScorer, histories: Sequence[Sequence[str]], *, kind: Kind = KIND) -> Tensor:
    """Compute a vector for each history -> (B, D); zero for a history without a known item, which prefers nothing."""
    known = [torch.tensor(scorer._list_known(dict.fromkeys(history)), dtype=torch.int64) for history in histories]
    item_ND = scorer.state.item_ND
    if kind == "items":
        return torch.stack([item_ND[index_N].mean(dim=0) if len(index_N) else item_ND.new_zeros(item_ND.shape[1]) for index_N in known])
    layers = list_item_layers(scorer)
    return torch.stack([propagate_user([layer_ND[index_N] for layer_ND in layers], is_filled=kind == "filled") for index_N in known])


def propagate_user(layers: Sequence[Tensor], *, is_filled: bool) -> Tensor:
    """Propagate over one new node with a self loop, as the user-item graph does, and average its layers; `layers` are its neighbours' (N, D)."""
    first_ND = layers[0]
    own_D = first_ND.mean(dim=0) if is_filled and len(first_ND) else first_ND.new_zeros(first_ND.shape[1])
    outputs = [own_D]
    for layer_ND in layers[:-1]:
        own_D = (own_D + layer_ND.sum(dim=0)) / (1 + len(layer_ND))
        outputs.append(own_D)
    return torch.stack(outputs).mean(dim=0)


def list_item_layers(scorer: RankerScorer) -> list[Tensor]:
    """Return the items' vectors at every layer of the user-item graph, each (N, D)."""
    model = scorer.model
    layers_MD = [torch.cat([model.user_embedding.weight, model.item_id_embedding.weight])]
    for _ in range(model.config.user_layers):
        layers_MD.append(propagate_interactions(model.interactions, layers_MD[-1]))
    return [layer_MD[model.num_users :] for layer_MD in layers_MD]


def find_stand_ins(new: pa.Table, catalogue: pa.Table, scorer: RankerScorer | CheckScorer) -> dict[str, str]:
    """Return for every new item the item of the ranker's catalogue that is most like it: by the sum of the cosines of text and picture.

    Both tables are of embeddings.
    """
    item_ids = catalogue["item_id"].to_pylist()
    rows = [row for row, item_id in enumerate(item_ids) if item_id in scorer.item_index]
    alike_MN = sum(
        to_unit_rows(np.array(get_matrix(new, name)).reshape(len(new), -1)) @ to_unit_rows(np.array(get_matrix(catalogue, name))[rows]).T
        for name in ("semantic", "clip_image")
    )
    return {item_id: item_ids[rows[place]] for item_id, place in zip(new["item_id"].to_pylist(), np.argmax(alike_MN, axis=1), strict=True)}


def rank_in_place(
    scorer: RankerScorer,
    user_ids: Sequence[str],
    stand_ins: Sequence[str],
    own_BF: np.ndarray,
    drawn_BF: np.ndarray,
    exclude: Sequence[Sequence[str]],
) -> tuple[Tensor, Tensor]:
    """Rank references that the ranker does not know in the place of the items most like them -> ranks with their own and with the drawn picture."""
    own_B = scorer.rank_substituted(user_ids, stand_ins, own_BF, exclude=exclude)
    return own_B, scorer.rank_substituted(user_ids, stand_ins, drawn_BF, exclude=exclude)


def number_categories(new: pa.Table, catalogue: pa.Table, scorer: CheckScorer, stand_in_of: Mapping[str, str]) -> dict[str, int]:
    """Return the number by which the evaluation ranker knows the category of every new item; where it knows no such category, that of the stand-in.

    Both tables are of items.
    """
    category_of = map_columns(catalogue, "item_id", "category")
    number_of = {category_of[item_id]: int(scorer.category_N[place]) for item_id, place in scorer.item_index.items()}
    return {
        item_id: number_of[category if category in number_of else category_of[stand_in_of[item_id]]]
        for item_id, category in map_columns(new, "item_id", "category").items()
    }


def rank_among_all(
    scorer: CheckScorer, user_ids: Sequence[str], new_ids: Sequence[str], drawn_BF: Tensor, exclude: Sequence[Sequence[str]]
) -> tuple[Tensor, Tensor]:
    """Rank new references, which the scorer has been given as items -> ranks with their own and with the drawn picture.

    None is a candidate of another: otherwise a rank would depend on what else is asked for.
    """
    all_new = dict.fromkeys(new_ids)
    alone = [[*item_ids, *(one for one in all_new if one != new_id)] for item_ids, new_id in zip(exclude, new_ids, strict=True)]
    return scorer.rank_original(user_ids, new_ids, exclude=alone), scorer.rank_substituted(user_ids, new_ids, drawn_BF, exclude=alone)
