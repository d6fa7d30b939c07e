"""The params of the ranker: model and training."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from pipeline.config import Count, Share, config_dataclass
from pipeline.metrics.protocol import Ideal

Negatives = Literal["all", "interacted"]


@config_dataclass
class MicroConfig:
    """Sizes and graph settings of the model; every field is explained in conf/."""

    embedding_dim: Count
    num_neighbors: Count
    exact_items: Count
    original_weight: Share
    item_layers: Count
    user_layers: NonNegativeInt
    train_features: bool
    image_text_weight: NonNegativeFloat


@config_dataclass
class RankerConfig(MicroConfig):
    """Params `ranker`: features, model, training and validation; every field is explained in conf/."""

    image_feature: Literal["visual", "clip_image"]
    text_feature: Literal["semantic", "visual", "clip_image"]
    include_reference: bool
    learning_rate: PositiveFloat
    decay: PositiveFloat
    decay_epochs: Count
    batch_size: Count
    max_steps: Count
    negatives: Negatives
    epochs: Count
    regularisation: NonNegativeFloat
    contrastive_weight: NonNegativeFloat
    contrastive_anchors: NonNegativeInt
    temperature: PositiveFloat
    validation_items: NonNegativeInt
    validate_every: Count
    selection_k: Count
    patience: NonNegativeInt
    ndcg: Ideal
