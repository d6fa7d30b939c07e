"""The params of the baseline GLIDE."""

from __future__ import annotations

from pipeline.config import Count, Share, TrainingConfig, config_dataclass
from pipeline.models.glide.config import GlideSampling

STAGE = "glide"
NO_WEIGHTS = "There are no weights of GLIDE: models.glide is null; name the folder that holds base.pt, upsample.pt, encoder.json.gz and vocab.bpe.gz."
CURVE_COLUMNS = ("step", "loss", "validation_loss")


@config_dataclass
class GlideTuning(TrainingConfig):
    """How the base model is tuned; every field is explained in conf/config.yaml."""

    batch_size: Count
    dropped_texts: Share
    validation_images: Count


@config_dataclass
class GlideConfig:
    """Params `glide`; every field is explained in conf/config.yaml."""

    tuning: GlideTuning
    sampling: GlideSampling
