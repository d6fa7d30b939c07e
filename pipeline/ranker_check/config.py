"""The params of the evaluation ranker, which are its own: no other block changes it."""

from __future__ import annotations

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from pipeline.config import Count, Share, config_dataclass


@config_dataclass
class TowerConfig:
    """Sizes of the model; every field is explained in conf/config.yaml."""

    embedding_dim: Count
    hidden_dim: Count


@config_dataclass
class CheckConfig(TowerConfig):
    """Params `ranker_check`: seed, encoding, model and training."""

    seed: NonNegativeInt
    encoding_batch_size: Count
    max_rejected_fraction: Share
    temperature: PositiveFloat
    batch_size: Count
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    epochs: NonNegativeInt
    patience: NonNegativeInt
