"""MovieLens 100K out of the package `recbole`, which carries it (nothing of it runs), its split, and the one protocol by which models are measured.

A rating of 3 or more is an interaction; 80 / 10 / 10 % of every user's are train, validation and test, drawn by one seed. A model ranks all
films but the user's train films (at the test, validation films as well); R@20 and N@20 are means over users.

Shapes: U users, N items, P pairs.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.metrics.ranking import build_candidate_mask, compute_ndcg, compute_ranks, compute_recall

K = 20
MIN_RATING = 3.0
SPLIT_SEED = 0


@dataclass(frozen=True)
class Films:
    """The split interactions, (user, item) pairs sorted, and what is known of every film."""

    num_users: int
    titles: list[str]
    decades: list[str]
    genres: list[list[str]]
    train_P2: Tensor
    validation_P2: Tensor
    test_P2: Tensor


def read_films() -> Films:
    """Read MovieLens 100K from the installed package and split it."""
    found = importlib.util.find_spec("recbole")
    if found is None or found.origin is None:
        raise SystemExit("error: the package recbole, which carries MovieLens 100K, is not installed; make setup EXTRAS=benchmark")
    folder = Path(found.origin).parent / "dataset_example" / "ml-100k"
    items = sorted(read_rows(folder / "ml-100k.item"), key=lambda row: int(row["item_id:token"]))
    item_index = {row["item_id:token"]: index for index, row in enumerate(items)}
    seen: dict[int, list[int]] = {}
    for row in read_rows(folder / "ml-100k.inter"):
        if float(row["rating:float"]) >= MIN_RATING:
            seen.setdefault(int(row["user_id:token"]) - 1, []).append(item_index[row["item_id:token"]])
    generator, parts = np.random.default_rng(SPLIT_SEED), ([], [], [])
    for user in sorted(seen):
        order = generator.permutation(sorted(seen[user])).tolist()
        held_out = len(order) // 10
        for part, chosen in zip(parts, (order[2 * held_out :], order[:held_out], order[held_out : 2 * held_out]), strict=True):
            part += [(user, item) for item in sorted(chosen)]
    train_P2, validation_P2, test_P2 = (torch.tensor(part) for part in parts)
    return Films(
        num_users=max(seen) + 1,
        titles=[row["movie_title:token_seq"] for row in items],
        decades=[row["release_year:token"][:3] for row in items],
        genres=[row["class:token_seq"].split() for row in items],
        train_P2=train_P2,
        validation_P2=validation_P2,
        test_P2=test_P2,
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table of RecBole: tab-separated, with types in the header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def measure(score_UN: Tensor, films: Films, *, test: bool) -> dict[str, dict[int, float]]:
    """Rank the held-out films in the full catalogue -> R@20 and N@20 by user."""
    target_P2 = films.test_P2 if test else films.validation_P2
    masked = [films.train_P2, films.validation_P2] if test else [films.train_P2]
    excluded: list[list[int]] = [[] for _ in range(films.num_users)]
    for user, item in itertools.chain.from_iterable(pairs.tolist() for pairs in masked):
        excluded[user].append(item)
    user_P, item_P = target_P2.T
    candidate_PN = build_candidate_mask(score_UN.shape[1], item_P, excluded=[excluded[user] for user in user_P.tolist()])
    rank_P = compute_ranks(score_UN[user_P], item_P, candidate_BN=candidate_PN)
    users, counts = torch.unique_consecutive(user_P, return_counts=True)
    rank_UP = torch.nn.utils.rnn.pad_sequence(torch.split(rank_P, counts.tolist()), batch_first=True)
    return {
        name: dict(zip(users.tolist(), value_U.tolist(), strict=True))
        for name, value_U in ((f"R@{K}", compute_recall(rank_UP, k=K)), (f"N@{K}", compute_ndcg(rank_UP, k=K)))
    }
