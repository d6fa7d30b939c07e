"""Train the ranker, resume it after a kill, and validate it (paper: Recommendation Reflection; settings of MICRO).

Training follows MICRO: user-uniform sampling, Adam, a learning rate that decays by epoch, learned graphs rebuilt with gradient in the
first batch of every epoch and reused without it in the others, early stopping by recall on validation items. Departures and choices:
1. Gradients are zeroed, not dropped, between batches. MICRO ran on a torch where this was the default, so that Adam's momentum keeps
   moving feature tables and projections in the batches without a graph rebuild.
2. Every batch's randomness comes from (seed, epoch, batch) alone and a checkpoint holds weights, best weights and Adam's state, so that
   a killed and resumed training ends in the same bytes.
3. InfoNCE is taken over `contrastive_anchors` random items a batch, all items if it is 0 (MICRO).
4. Validation leaves out the last history items; see `interactions.py`.
5. An epoch has at most `max_steps` batches; of more interactions than that allows, batches grow. Every step propagates over the whole graph,
   so that MICRO's epoch of batches of one size would take time by the square of the interactions.
6. NDCG's ideal list holds every positive (`ndcg: standard`); MICRO's own code counts only those that it retrieved (`retrieved`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.checkpoints import open_checkpoints
from pipeline.metrics.protocol import CUTOFF, Ideal
from pipeline.metrics.ranking import build_candidate_mask, compute_ndcg, compute_ranks, compute_recall
from pipeline.randomness import make_generator
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.graph import split_rows
from pipeline.ranker.interactions import PairSampler, RankerData, build_ranker_data, build_sampler, sample_triples
from pipeline.ranker.losses import compute_bpr_loss, compute_contrastive_loss, compute_regularisation
from pipeline.ranker.micro import MODALITIES, ItemGraphs, Micro
from pipeline.training import CurveRow, Plan, TrainingState, decay, run_training

STAGE = "ranker"
LOSSES = ("bpr", "regularisation", "contrastive_image", "contrastive_text")
CURVE_COLUMNS = ("epoch", "loss", *LOSSES, "recall_at_10", "ndcg_at_10", "selection_recall")


@dataclass(frozen=True)
class Trained:
    """A trained model with its best weights, and how it got there."""

    model: Micro
    state: TrainingState
    best_epoch: int


def read_data(
    interactions: pa.Table,
    cases: pa.Table,
    embeddings: pa.Table,
    *,
    config: RankerConfig,
    image_feature: str | None = None,
    items: pa.Table | None = None,
) -> RankerData:
    """Build the training data that `config` asks for, or from the column `image_feature`; `items` restricts the catalogue."""
    return build_ranker_data(
        interactions,
        cases,
        embeddings,
        image_feature=image_feature or config.image_feature,
        text_feature=config.text_feature,
        validation_items=config.validation_items,
        include_reference=config.include_reference,
        image_text_weight=config.image_text_weight,
        items=items,
    )


class RankerTraining:
    """MICRO; a step of the loop is an epoch, which rebuilds the learned graphs in its first batch."""

    def __init__(self, data: RankerData, config: RankerConfig, *, seed: int, device: torch.device) -> None:
        self.data, self.config, self.seed = data, config, seed
        self.model = build_model(data, config, seed=seed, device=device)
        self.optimizer = torch.optim.Adam([weight for weight in self.model.parameters() if weight.requires_grad], lr=config.learning_rate, fused=True)
        self.sampler = build_sampler(data.train_P2, num_users=len(data.user_ids), num_items=len(data.item_ids), negatives=config.negatives)
        self.batch_size = max(config.batch_size, len(data.train_P2) // config.max_steps + 1)
        self.num_batches = len(data.train_P2) // self.batch_size + 1

    def name_tensors(self) -> dict[str, Tensor]:
        """Return the model's weights."""
        return self.model.state_dict()

    def take_step(self, step: int) -> CurveRow:
        """Run one epoch and return the mean of every loss."""
        learned = self.model.build_learned_graphs()
        sums = torch.zeros(1 + len(LOSSES), dtype=torch.float64)
        for batch in range(self.num_batches):
            sums += self._train_batch(learned, generator=make_generator(self.seed, STAGE, str(step), str(batch)))
            learned = {name: item_graph.detach() for name, item_graph in learned.items()}
        if not torch.isfinite(sums).all():
            raise ValueError(f"the ranker's loss is not finite in epoch {step + 1}; lower learning_rate ({self.config.learning_rate}).")
        return dict(zip(("loss", *LOSSES), (sums / self.num_batches).tolist(), strict=True))

    def _train_batch(self, learned: ItemGraphs, *, generator: torch.Generator) -> Tensor:
        """Train one batch and return its losses, in float64; what it has computed is freed before the next begins."""
        config = self.config
        parts = compute_losses(self.model, learned, self.sampler, config, batch_size=self.batch_size, generator=generator)
        loss = parts["bpr"] + config.regularisation * parts["regularisation"]
        loss = loss + config.contrastive_weight * (parts["contrastive_image"] + parts["contrastive_text"])
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        self.optimizer.step()
        return torch.stack([loss.detach(), *(parts[name].detach() for name in LOSSES)]).double().cpu()

    def validate(self) -> CurveRow:
        """Rank the validation items, if there are any."""
        if not len(self.data.validation_P2):
            return {}
        rank_VP = rank_validation(self.model, self.data)
        selection = float(compute_recall(rank_VP, k=self.config.selection_k).mean())
        return {**measure_ranks(rank_VP, self.config.ndcg), "selection_recall": selection}


def train_ranker(data: RankerData, config: RankerConfig, *, seed: int, device: torch.device, checkpoint_every: int, stage: str = STAGE) -> Trained:
    """Train from the last checkpoint, or from the start, and return the best weights by validation; without it the last are the best."""
    training = RankerTraining(data, config, seed=seed, device=device)
    plan = Plan(
        num_steps=config.epochs,
        validate_every=config.validate_every,
        validate_start=False,
        rate=decay(config.decay, config.decay_epochs),
        score="selection_recall",
        keep="best" if len(data.validation_P2) else "last",
        stop_after=config.patience + 1,
    )
    every = -(-checkpoint_every // training.num_batches)
    read = replace(data, cases=(), num_left_out=0)  # only measured
    with open_checkpoints(stage, code=[train_ranker], inputs=(config, seed, read)) as checkpoints:
        state = run_training(training, plan, checkpoints, checkpoint_every=every, label=stage)
    return Trained(training.model, state, state.find_kept_step(plan))


def build_model(data: RankerData, config: RankerConfig, *, seed: int, device: torch.device) -> Micro:
    """Build the untrained model on `device`."""
    features = {name: feature.to(device) for name, feature in data.features.items()}
    return Micro(
        features,
        data.train_P2.to(device),
        num_users=len(data.user_ids),
        config=config,
        generator=make_generator(seed, STAGE, "weights"),
    )


def compute_losses(
    model: Micro, learned: ItemGraphs, sampler: PairSampler, config: RankerConfig, *, batch_size: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw one batch and compute its losses, before weighting."""
    vectors = model(learned)
    device, num_items = vectors.item_ND.device, len(vectors.item_ND)
    user_B, positive_B, negative_B = (index.to(device) for index in sample_triples(sampler, batch_size, generator=generator))
    user_BD = functional.embedding(user_B, vectors.user_UD)
    positive_BD = functional.embedding(positive_B, vectors.item_ND)
    negative_BD = functional.embedding(negative_B, vectors.item_ND)
    anchor_A = None  # all items
    if 0 < config.contrastive_anchors < num_items:
        anchor_A = torch.randperm(num_items, generator=generator)[: config.contrastive_anchors].sort().values.to(device)
    contrastive = {
        f"contrastive_{name}": compute_contrastive_loss(vectors.views_ND[name], vectors.fused_ND, anchor_A, temperature=config.temperature)
        for name in MODALITIES
    }
    return {
        "bpr": compute_bpr_loss((user_BD * positive_BD).sum(dim=1), (user_BD * negative_BD).sum(dim=1)),
        "regularisation": compute_regularisation(user_BD, positive_BD, negative_BD),
        **contrastive,
    }


@torch.no_grad()
def rank_validation(model: Micro, data: RankerData) -> Tensor:
    """Rank every validation item among all items but its user's training items -> (V, P) int64, a row per user, 0 pads."""
    vectors = model(model.build_learned_graphs())
    seen: list[list[int]] = [[] for _ in data.user_ids]
    for user, item in data.train_P2.tolist():
        seen[user].append(item)
    parts = []
    for rows in split_rows(len(data.validation_P2), len(data.item_ids)):
        user_B, item_B = data.validation_P2[rows].to(vectors.item_ND.device).T
        mask_BN = build_candidate_mask(len(data.item_ids), item_B, excluded=[seen[user] for user in user_B.tolist()])
        parts.append(compute_ranks(vectors.user_UD[user_B] @ vectors.item_ND.T, item_B, candidate_BN=mask_BN).cpu())
    users, counts = torch.unique_consecutive(data.validation_P2[:, 0], return_counts=True)
    return torch.nn.utils.rnn.pad_sequence(torch.split(torch.cat(parts), counts.tolist()), batch_first=True) if len(users) else torch.empty(0, 1)


def measure_ranks(rank_BP: Tensor, ideal: Ideal) -> dict[str, float]:
    """Measure recall and NDCG of ranked positives, a row a user."""
    return {
        f"recall_at_{CUTOFF}": float(compute_recall(rank_BP, k=CUTOFF).mean()),
        f"ndcg_at_{CUTOFF}": float(compute_ndcg(rank_BP, k=CUTOFF, ideal=ideal).mean()),
    }
