"""What the evaluation ranker learns from: the data set's items and interactions, as dense indices.

Choices: 1. an item whose image cannot be encoded is left out, also of the histories; one that occurs twice in a history counts once, at its first
place. 2. The last item of every history of three or more is held out: it stops the training and is ranked for the figures. 3. Users and
items are numbered by sorted id.
Shapes: U users, N items, F features, P pairs (user index, item index).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

MIN_LEFT = 2  # items of a user that are trained on: each is told from the others


@dataclass(frozen=True)
class Catalogue:
    """The items: row i of `image_NF` and `category_N` belongs to `item_ids[i]`."""

    item_ids: tuple[str, ...]
    image_NF: Tensor  # unit rows, float32
    category_N: Tensor  # int64, indices of the sorted categories


@dataclass(frozen=True)
class CheckData:
    """The items and who has looked at what."""

    catalogue: Catalogue
    user_ids: tuple[str, ...]
    train_P2: Tensor  # sorted
    held_out_P2: Tensor  # at most one a user
    num_left_out: int  # interactions whose item has no vector


def build_catalogue(item_ids: list[str], image_NF: np.ndarray, category_of: Mapping[str, str]) -> Catalogue:
    """Number the items' categories."""
    categories = [category_of[item_id] for item_id in item_ids]
    place_of = {category: place for place, category in enumerate(sorted(set(categories)))}
    return Catalogue(tuple(item_ids), torch.from_numpy(image_NF), torch.tensor([place_of[category] for category in categories]))


def build_data(interactions: pa.Table, catalogue: Catalogue) -> CheckData:
    """Split every user's history into what is trained on and what is held out; ValueError if nobody has looked at an item of the catalogue."""
    index_of = {item_id: index for index, item_id in enumerate(catalogue.item_ids)}
    histories: dict[str, list[str]] = {}
    for user_id, _, item_id in sorted(zip(*(interactions[name].to_pylist() for name in ("user_id", "position", "item_id")), strict=True)):
        histories.setdefault(user_id, []).append(item_id)
    train, held_out = [], []
    for user, history in enumerate(histories.values()):
        known = [index_of[item_id] for item_id in dict.fromkeys(history) if item_id in index_of]
        cut = len(known) - (len(known) > MIN_LEFT)
        train += [(user, item) for item in known[:cut]]
        held_out += [(user, item) for item in known[cut:]]
    if not train:
        raise ValueError("no user has looked at an item whose image can be encoded, so there is nothing to rank by.")
    return CheckData(
        catalogue=catalogue,
        user_ids=tuple(histories),
        train_P2=torch.tensor(sorted(train)),
        held_out_P2=torch.tensor(held_out, dtype=torch.int64).reshape(-1, 2),
        num_left_out=sum(item_id not in index_of for history in histories.values() for item_id in history),
    )
