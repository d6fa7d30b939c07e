"""The evaluation ranker with users and items that it was not trained on, for requests from outside of the data set.

Nothing in the two towers belongs to a single user or item: a new user is the sum of their history and a new item the tower's vector of its image
and category, exactly as the known ones are. So the scorer that is returned gives known users and items what it gave them before.
Shapes: M new items, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.ranker_check.scoring import CheckScorer, Ids
from pipeline.ranker_check.tower import sum_items


def add_users(scorer: CheckScorer, histories: Mapping[str, Ids]) -> CheckScorer:
    """Return a scorer that knows these users as well, by their histories.

    As in training, an item counts once and one that the ranker does not know is left out; who has no other is zero, which prefers nothing.
    """
    new = {user_id: history for user_id, history in histories.items() if user_id not in scorer.user_index}
    known = [[scorer.item_index[one] for one in dict.fromkeys(history) if one in scorer.item_index] for history in new.values()]
    device = scorer.item_ND.device
    item_P = torch.tensor([item for items in known for item in items], dtype=torch.int64, device=device)
    count_B = torch.tensor([len(items) for items in known], dtype=torch.int64, device=device)
    other = copy.copy(scorer)
    other.user_index = _extend(scorer.user_index, list(new))
    other.user_UD = torch.cat([scorer.user_UD, functional.normalize(sum_items(scorer.item_ND, item_P, count_B), dim=1)])
    return other


def add_items(scorer: CheckScorer, item_ids: Ids, image_MF: Tensor, categories: Sequence[int]) -> CheckScorer:
    """Return a scorer whose catalogue ends with these items: image vectors of its encoder, and categories by the ranker's numbers."""
    known = next((item_id for item_id in item_ids if item_id in scorer.item_index), None)
    if known is not None:
        raise ValueError(f"the evaluation ranker knows {known!r} already.")
    category_M = torch.tensor(categories, dtype=torch.int64, device=scorer.item_ND.device)
    other = copy.copy(scorer)
    other.item_index = _extend(scorer.item_index, item_ids)
    other.category_N = torch.cat([scorer.category_N, category_M])
    other.item_ND = torch.cat([scorer.item_ND, scorer.tower(image_MF.to(scorer.item_ND), category_M)])
    return other


def _extend(index: Mapping[str, int], ids: Ids) -> dict[str, int]:
    return {**index, **{one: place for place, one in enumerate(ids, start=len(index))}}
