"""Train the ranker, resume it after a kill, and measure it (paper: Recommendation Reflection; settings of MICRO).

Training follows MICRO: user-uniform sampling, Adam, a learning rate that decays by epoch, learned graphs rebuilt with gradient in the
first step of every epoch and reused without it in the others, early stopping by recall on validation items. Departures and choices:
1. Gradients are zeroed, not dropped, between steps. MICRO ran on a torch where this was the default, so that Adam's momentum keeps
   moving feature tables and projections in the steps without a graph rebuild.
2. Every step's randomness comes from (seed, epoch, step) alone and a checkpoint holds weights, best weights and Adam's state, so that
   a killed and resumed training ends in the same bytes.
3. InfoNCE is taken over `contrastive_anchors` random items per step, all items if it is 0 (MICRO).
4. Validation leaves out the last history items; see `interactions.py`.
5. NDCG's ideal list holds every positive (`ndcg: standard`); MICRO's own code counts only those that it retrieved (`retrieved`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.checkpoints import flatten_optimizer, load_checkpoint, restore_optimizer, save_checkpoint
from pipeline.fingerprint import compute_fingerprint
from pipeline.metrics.protocol import CUTOFF, NUM_NEGATIVES, Ideal
from pipeline.metrics.ranking import compute_ndcg, compute_ranks, compute_recall
from pipeline.randomness import make_generator
from pipeline.ranker import graph, interactions, losses, micro
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.graph import split_rows
from pipeline.ranker.interactions import PairSampler, RankerData, build_ranker_data, build_sampler, sample_triples
from pipeline.ranker.losses import compute_bpr_loss, compute_contrastive_loss, compute_regularisation
from pipeline.ranker.micro import MODALITIES, ItemGraphs, Micro
from pipeline.ranker.scoring import RankerScorer, build_candidate_mask
from pipeline.runtime import progress

STAGE = "ranker"
LOSSES = ("bpr", "regularisation", "contrastive_image", "contrastive_text")
CURVE_COLUMNS = ("epoch", "loss", *LOSSES, "recall_at_10", "ndcg_at_10", "selection_recall")


@dataclass
class Training:
    """Where training stands; goes into checkpoints as it is."""

    epoch: int = 0  # epochs finished
    best_epoch: int = 0
    best_score: float = -1.0
    stale: int = 0  # validations since the best
    curves: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """A trained model with its best weights, and how it got there."""

    model: Micro
    training: Training


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


def identify_training(data: RankerData, config: RankerConfig, *, seed: int) -> str:
    """Identify a training by everything that decides its result, the code of model and training included."""
    sources = [Path(module).read_bytes() for module in (graph.__file__, interactions.__file__, losses.__file__, micro.__file__, __file__)]
    arrays = [data.train_P2, data.validation_P2, data.features["image"], data.features["text"]]
    contents = [array.numpy().tobytes() for array in arrays]
    return compute_fingerprint(config, seed, data.user_ids, data.item_ids, sources, contents)


def train_ranker(
    data: RankerData, config: RankerConfig, *, seed: int, device: torch.device, fingerprint: str, checkpoint_every: int, stage: str = STAGE
) -> Trained:
    """Train from the last checkpoint of `stage` and `fingerprint`, or from the start, and return the best weights by validation."""
    model = build_model(data, config, seed=seed, device=device)
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=config.learning_rate)
    sampler = build_sampler(data.train_P2, num_users=len(data.user_ids), num_items=len(data.item_ids), negatives=config.negatives)
    training, best = _resume(model, optimizer, stage, fingerprint)
    steps_an_epoch = len(data.train_P2) // config.batch_size + 1
    saved = training.epoch
    for epoch in progress(range(training.epoch, config.epochs), label=stage, total=config.epochs - training.epoch):
        if training.stale > config.patience:
            break
        means = train_epoch(model, optimizer, sampler, config, epoch=epoch, num_steps=steps_an_epoch, seed=seed)
        training.epoch = epoch + 1
        training.curves.append({"epoch": training.epoch, **means})
        is_due = training.epoch % config.validate_every == 0 or training.epoch == config.epochs
        if is_due and _record_validation(model, data, config, training):
            best = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
        if (training.epoch - saved) * steps_an_epoch >= checkpoint_every:
            saved = training.epoch
            _save(model, optimizer, stage, fingerprint, training, best)
    _save(model, optimizer, stage, fingerprint, training, best)
    model.load_state_dict(best)
    return Trained(model, training)


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


def train_epoch(
    model: Micro, optimizer: torch.optim.Optimizer, sampler: PairSampler, config: RankerConfig, *, epoch: int, num_steps: int, seed: int
) -> dict[str, float]:
    """Run one epoch and return the mean of every loss."""
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * config.decay ** (epoch / config.decay_epochs)
    learned = model.build_learned_graphs()
    sums = torch.zeros(1 + len(LOSSES), dtype=torch.float64)
    for step in range(num_steps):
        generator = make_generator(seed, STAGE, str(epoch), str(step))
        parts = compute_losses(model, learned, sampler, config, generator=generator)
        loss = parts["bpr"] + config.regularisation * parts["regularisation"]
        loss = loss + config.contrastive_weight * (parts["contrastive_image"] + parts["contrastive_text"])
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        learned = {name: item_graph.detach() for name, item_graph in learned.items()}
        sums += torch.stack([loss.detach(), *(parts[name].detach() for name in LOSSES)]).double().cpu()
    if not torch.isfinite(sums).all():
        raise ValueError(f"the ranker's loss is not finite in epoch {epoch + 1}; lower learning_rate ({config.learning_rate}).")
    return dict(zip(("loss", *LOSSES), (sums / num_steps).tolist(), strict=True))


def compute_losses(model: Micro, learned: ItemGraphs, sampler: PairSampler, config: RankerConfig, *, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw one batch and compute its losses, before weighting."""
    vectors = model(learned)
    device, num_items = vectors.item_ND.device, len(vectors.item_ND)
    user_B, positive_B, negative_B = (index.to(device) for index in sample_triples(sampler, config.batch_size, generator=generator))
    user_BD = functional.embedding(user_B, vectors.user_UD)
    positive_BD = functional.embedding(positive_B, vectors.item_ND)
    negative_BD = functional.embedding(negative_B, vectors.item_ND)
    num_anchors = min(config.contrastive_anchors or num_items, num_items)
    anchor_A = torch.randperm(num_items, generator=generator)[:num_anchors].sort().values.to(device)
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


def _record_validation(model: Micro, data: RankerData, config: RankerConfig, training: Training) -> bool:
    """Validate, note it in the curves, and say whether these are the best weights; without validation the last always are."""
    if not len(data.validation_P2):
        training.best_epoch = training.epoch
        return True
    rank_VP = rank_validation(model, data)
    score = float(compute_recall(rank_VP, k=config.selection_k).mean())
    training.curves[-1] |= {**_measure(rank_VP, config.ndcg), "selection_recall": score}
    if score > training.best_score:
        training.best_score, training.best_epoch, training.stale = score, training.epoch, 0
        return True
    training.stale += 1
    return False


def _measure(rank_BP: Tensor, ideal: Ideal) -> dict[str, float]:
    return {
        f"recall_at_{CUTOFF}": float(compute_recall(rank_BP, k=CUTOFF).mean()),
        f"ndcg_at_{CUTOFF}": float(compute_ndcg(rank_BP, k=CUTOFF, ideal=ideal).mean()),
    }


def _resume(model: Micro, optimizer: torch.optim.Optimizer, stage: str, fingerprint: str) -> tuple[Training, dict[str, Tensor]]:
    weights = model.state_dict()
    checkpoint = load_checkpoint(stage, fingerprint)
    if checkpoint is None:
        return Training(), {name: weight.clone() for name, weight in weights.items()}
    _, tensors, facts = checkpoint
    model.load_state_dict({name: tensors[f"weights.{name}"] for name in weights})
    restore_optimizer(optimizer, tensors)
    return Training(**facts), {name: tensors[f"best.{name}"] for name in weights}


def _save(model: Micro, optimizer: torch.optim.Optimizer, stage: str, fingerprint: str, training: Training, best: dict[str, Tensor]) -> None:
    tensors = {f"weights.{name}": weight for name, weight in model.state_dict().items()}
    tensors |= {f"best.{name}": weight for name, weight in best.items()} | flatten_optimizer(optimizer)
    save_checkpoint(stage, fingerprint, step=training.epoch, tensors=tensors, facts=asdict(training))


def measure_ranker(trained: Trained, scorer: RankerScorer, data: RankerData, *, seed: int, ndcg: Ideal = "standard") -> dict[str, Any]:
    """Measure R@10 and N@10 of the validation items and of the references with their own images (ORI of Table 4).

    References are ranked in the full catalogue and (`reference_sampled`) among NUM_NEGATIVES drawn candidates.
    """
    metrics: dict[str, Any] = {"best_epoch": trained.training.best_epoch, "epochs": trained.training.epoch}
    metrics |= {"users": len(data.user_ids), "items": len(data.item_ids), "interactions": len(data.train_P2), "left_out": data.num_left_out}
    if len(data.validation_P2):
        rank_VP = rank_validation(trained.model, data)
        metrics["validation"] = {**_measure(rank_VP, ndcg), "n": len(rank_VP)}
    if data.cases:
        users, references = [case.user_id for case in data.cases], [case.reference_id for case in data.cases]
        histories, keys = [case.history for case in data.cases], [case.case_id for case in data.cases]
        negatives = scorer.draw_negatives(keys, references, exclude=histories, count=NUM_NEGATIVES, seed=seed)
        full_B = scorer.rank_original(users, references, exclude=histories)
        sampled_B = scorer.rank_original(users, references, exclude=histories, negatives=negatives)
        metrics["reference"] = {**_measure(full_B[:, None], ndcg), "median_rank": float(full_B.double().quantile(0.5)), "n": len(full_B)}
        metrics["reference_sampled"] = {**_measure(sampled_B[:, None], ndcg), "negatives": NUM_NEGATIVES, "n": len(sampled_B)}
    return metrics
