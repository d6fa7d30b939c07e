"""MICRO beside popularity, ItemKNN and a library's LightGCN on MovieLens 100K, under one protocol. Run: make bench-movielens

It writes docs/results/bench-movielens.md. LightGCN is that of the package `torch_geometric`; it and `recbole`, which carries the ratings, are
development extras (make setup EXTRAS=benchmark), and nothing of them is shipped here. The protocol is in `tests/movielens.py`. Trained models
stop and choose their weights by R@20 of the validation films, and their settings below were chosen by it as well (`python -m
tests.bench_movielens --search` prints that). MovieLens has no pictures: MICRO's `image` feature is the genres and the decade of a film, its
`text` feature the title by our text encoder.

Shapes: U users, N items, P pairs, B batch rows, M = U + N nodes.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.endings import run_command
from pipeline.files import write_bytes
from pipeline.metrics.intervals import compute_nested_interval
from pipeline.models.encoders import load_clip
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import RankerTraining
from pipeline.ranker.graph import normalise_rows
from pipeline.ranker.interactions import RankerData
from pipeline.terminal import say
from tests.configs import PARAMS, read_default
from tests.movielens import Films, K, measure, read_films

PAGE = Path("docs/results/bench-movielens.md")
METRICS = (f"R@{K}", f"N@{K}")
SEEDS = range(5)
MAX_EPOCHS, VALIDATE_EVERY, PATIENCE = 300, 5, 5
BATCH_SIZE = 2048  # of both trained models
NEIGHBOURS = (20, 50, 100, 200)  # of ItemKNN, chosen by validation in every run
LIGHTGCN_SEARCH: list[dict[str, Any]] = [
    {"num_layers": 2, "rate": 0.005, "regularisation": 1e-4},
    {"num_layers": 2, "rate": 0.005, "regularisation": 1e-2},
    {"num_layers": 3, "rate": 0.005, "regularisation": 1e-4},
]
MICRO_SEARCH: list[dict[str, Any]] = [{"learning_rate": 0.005}]
LIGHTGCN, MICRO = LIGHTGCN_SEARCH[2], MICRO_SEARCH[0]
Scores = dict[str, dict[int, float]]  # by metric and user


class Model(Protocol):
    """A model that is trained epoch by epoch."""

    def train_epoch(self, epoch: int) -> None:
        """Train one epoch."""

    def score(self) -> Tensor:
        """Score every item for every user -> (U, N)."""


def score_popularity(films: Films) -> Tensor:
    """Score every film by its train interactions."""
    count_N = torch.bincount(films.train_P2[:, 1], minlength=len(films.titles)).double()
    return count_N.expand(films.num_users, -1)


def score_item_knn(films: Films, *, num_neighbours: int) -> Tensor:
    """Score every film by its cosine similarity to the user's films, each film with its `num_neighbours` most similar ones."""
    seen_UN = torch.zeros(films.num_users, len(films.titles), dtype=torch.float64)
    seen_UN[films.train_P2[:, 0], films.train_P2[:, 1]] = 1.0
    unit_NU = normalise_rows(seen_UN.T)
    cosine_NN = (unit_NU @ unit_NU.T).fill_diagonal_(0.0)
    kept = cosine_NN.topk(num_neighbours, dim=1)
    return seen_UN @ torch.zeros_like(cosine_NN).scatter(1, kept.indices, kept.values).T


def build_symmetric_graph(films: Films) -> Tensor:
    """Build LightGCN's graph, D^-1/2 A D^-1/2, as the sparse matrix with which the library is several times faster than with its own edges."""
    edge_2P = torch.stack([films.train_P2[:, 0], films.train_P2[:, 1] + films.num_users])
    edge_2E = torch.cat([edge_2P, edge_2P.flip(0)], dim=1)
    num_nodes = films.num_users + len(films.titles)
    root_M = torch.bincount(edge_2E[0], minlength=num_nodes).clamp(min=1).float().rsqrt()
    return torch.sparse_coo_tensor(edge_2E, root_M[edge_2E].prod(dim=0), (num_nodes, num_nodes), check_invariants=True).to_sparse_csr()


class LibraryLightGCN:
    """LightGCN of torch_geometric with its own BPR loss; one uniform unseen film for each interaction of an epoch."""

    def __init__(
        self, films: Films, *, seed: int, num_layers: int, rate: float, regularisation: float, batch_size: int = 2048, width: int = 64
    ) -> None:
        from torch_geometric.nn.models import LightGCN

        torch.manual_seed(seed)
        self.films, self.regularisation = films, regularisation
        self.generator = torch.Generator().manual_seed(seed)
        self.model = LightGCN(films.num_users + len(films.titles), width, num_layers, normalize=False)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)
        self.graph = build_symmetric_graph(films)
        self.seen_UN = torch.zeros(films.num_users, len(films.titles), dtype=torch.bool)
        self.seen_UN[films.train_P2[:, 0], films.train_P2[:, 1]] = True

    def train_epoch(self, epoch: int) -> None:
        """Visit every interaction once."""
        order_P = torch.randperm(len(self.films.train_P2), generator=self.generator)
        for chosen_B in order_P.split(BATCH_SIZE):
            user_B, item_B = self.films.train_P2[chosen_B].T
            unseen_B = torch.randint(len(self.films.titles), (len(chosen_B),), generator=self.generator)
            while (clash_B := self.seen_UN[user_B, unseen_B]).any():
                unseen_B[clash_B] = torch.randint(len(self.films.titles), (int(clash_B.sum()),), generator=self.generator)
            items_B = torch.cat([item_B, unseen_B]) + self.films.num_users
            score_2B = self.model(self.graph, torch.stack([user_B.repeat(2), items_B])).chunk(2)
            nodes_B = torch.cat([user_B, items_B]).unique()
            loss = self.model.recommendation_loss(*score_2B, node_id=nodes_B, lambda_reg=self.regularisation)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def score(self) -> Tensor:
        """Score by dot products of the propagated vectors."""
        vector_MD = self.model.get_embedding(self.graph)
        return vector_MD[: self.films.num_users] @ vector_MD[self.films.num_users :].T


class OurMicro:
    """MICRO as the pipeline trains it."""

    def __init__(self, films: Films, features: dict[str, Tensor], *, seed: int, **changes: Any) -> None:
        data = RankerData(
            user_ids=tuple(f"u{index:04d}" for index in range(films.num_users)),
            item_ids=tuple(f"i{index:04d}" for index in range(len(films.titles))),
            features=features,
            train_P2=films.train_P2,
            validation_P2=films.validation_P2,
            cases=(),
            num_left_out=0,
        )
        config = read_default("ranker", RankerConfig, image_text_weight=0.0, negatives="all", batch_size=BATCH_SIZE, **changes)
        self.training = RankerTraining(data, config, seed=seed, device=torch.device("cpu"))

    def train_epoch(self, epoch: int) -> None:
        """Take one epoch of the ranker's own training."""
        self.training.take_step(epoch)

    @torch.no_grad()
    def score(self) -> Tensor:
        """Score by dot products of the final vectors."""
        vectors = self.training.model(self.training.model.build_learned_graphs())
        return vectors.user_UD @ vectors.item_ND.T


def build_features(films: Films) -> dict[str, Tensor]:
    """Make MICRO's features: which genres and which decade a film has, and its title by our text encoder."""
    tags = [[*genres, decade] for genres, decade in zip(films.genres, films.decades, strict=True)]
    names = {name: index for index, name in enumerate(sorted(set(itertools.chain.from_iterable(tags))))}
    tag_NF = torch.zeros(len(tags), len(names))
    for row, chosen in enumerate(tags):
        tag_NF[row, [names[name] for name in chosen]] = 1.0
    encoder = load_clip(PARAMS["models"]["clip"])
    titles = [encoder.encode_texts(films.titles[start : start + 64]) for start in range(0, len(films.titles), 64)]
    return {"image": normalise_rows(tag_NF), "text": normalise_rows(torch.cat(titles).float().cpu())}


def fit(model: Model, films: Films, *, max_epochs: int = MAX_EPOCHS) -> tuple[float, int, Tensor]:
    """Train until validation stops rising -> the best mean R@20 of validation, its epoch, and that epoch's scores."""
    best, best_epoch, best_score_UN = -1.0, 0, torch.empty(0)
    for epoch in range(max_epochs):
        model.train_epoch(epoch)
        if (epoch + 1) % VALIDATE_EVERY == 0:
            score_UN = model.score()
            recall = average(measure(score_UN, films, test=False)[f"R@{K}"])
            if recall > best:
                best, best_epoch, best_score_UN = recall, epoch + 1, score_UN
            elif epoch + 1 - best_epoch >= PATIENCE * VALIDATE_EVERY:
                break
    return best, best_epoch, best_score_UN


def average(by_user: dict[int, float]) -> float:
    """Average over users."""
    return sum(by_user.values()) / len(by_user)


def write_row(name: str, runs: list[Scores]) -> str:
    """Write a line of the table: means over users and seeds with their 95% intervals, those of differences with their sign."""
    sign = "+" if " - " in name else ""
    cells = []
    for metric in METRICS:
        interval = compute_nested_interval({(seed, user): value for seed, run in enumerate(runs) for user, value in run[metric].items()}, seed=0)
        cells.append(f"{interval.value:{sign}.4f} [{interval.low:{sign}.4f}, {interval.high:{sign}.4f}]")
    return f"| {name} | {len(runs)} | {' | '.join(cells)} |"


def subtract(first: Scores, second: Scores) -> Scores:
    """Subtract two models' figures user by user."""
    return {metric: {user: first[metric][user] - second[metric][user] for user in first[metric]} for metric in first}


def search(films: Films, features: dict[str, Tensor]) -> None:
    """Print R@20 of the validation films for every setting, with the first seed."""
    for settings in LIGHTGCN_SEARCH:
        print("LightGCN", settings, "validation {:.4f}, epoch {}".format(*fit(LibraryLightGCN(films, seed=0, **settings), films)), flush=True)
    for settings in MICRO_SEARCH:
        print("MICRO", settings, "validation {:.4f}, epoch {}".format(*fit(OurMicro(films, features, seed=0, **settings), films)), flush=True)


def compare(films: Films, features: dict[str, Tensor]) -> Iterator[str]:
    """Yield a line of the table for each model, as it is finished, and one for MICRO's lead over LightGCN."""
    yield write_row("popularity", [measure(score_popularity(films), films, test=True)])
    neighbours = {count: score_item_knn(films, num_neighbours=count) for count in NEIGHBOURS}
    chosen = max(neighbours, key=lambda count: average(measure(neighbours[count], films, test=False)[f"R@{K}"]))
    yield write_row(f"ItemKNN, {chosen} neighbours", [measure(neighbours[chosen], films, test=True)])
    light = train_seeds("LightGCN", lambda seed: LibraryLightGCN(films, seed=seed, **LIGHTGCN), films)
    yield write_row(f"LightGCN, {LIGHTGCN['num_layers']} layers", light)
    micro = train_seeds("MICRO", lambda seed: OurMicro(films, features, seed=seed, **MICRO), films)
    yield write_row("MICRO (ours)", micro)
    yield write_row("MICRO - LightGCN, paired", [subtract(first, second) for first, second in zip(micro, light, strict=True)])


def train_seeds(name: str, build: Callable[[int], Model], films: Films) -> list[Scores]:
    """Train a model under every seed, say how each went, and return the test figures."""
    runs = []
    for seed in SEEDS:
        recall, epoch, score_UN = fit(build(seed), films)
        say(f"{name}, seed {seed}: R@{K} of validation {recall:.4f}, epoch {epoch}")
        runs.append(measure(score_UN, films, test=True))
    return runs


def build_page(rows: Iterable[str], films: Films) -> str:
    """Put the table and what it was measured with on a page."""
    train, validation, test = (f"{len(pairs_P2):,}" for pairs_P2 in (films.train_P2, films.validation_P2, films.test_P2))
    lines = [
        "# The ranker on real interactions",
        "",
        f"Made by `make bench-movielens`, torch {torch.__version__}, torch_geometric {version('torch_geometric')}; never edited by hand.",
        "",
        f"MovieLens 100K out of the package `recbole` {version('recbole')}: {films.num_users} users, {len(films.titles):,} films; ratings of 3 and",
        f"more; 80 / 10 / 10% of every user's for train ({train}), validation ({validation}) and test ({test}).",
        "The full catalogue is ranked but for the user's train and validation films, and each mean is over users. Intervals are over training",
        "seeds and users, of models without a seed over users. LightGCN is the library's; it, MICRO and ItemKNN chose settings and epochs by",
        f"R@{K} of the validation films (`python -m tests.bench_movielens --search`). MovieLens has no pictures: MICRO's `image` feature is",
        "genres and decade, its `text` feature the title by the embedded text encoder. LightGCN trains on one interaction each, MICRO draws",
        "users uniformly, each by its own recipe.",
        "",
        f"| model | seeds | {' | '.join(f'{metric} [95%]' for metric in METRICS)} |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Search the settings, or compare the models and write the page."""
    films = read_films()
    features = build_features(films)
    if sys.argv[1:] == ["--search"]:
        search(films, features)
        return
    rows = []
    for row in compare(films, features):
        say(row)
        rows.append(row)
    write_bytes(PAGE, build_page(rows, films).encode())
    say(f"{PAGE} is written.")


if __name__ == "__main__":
    run_command(main)
