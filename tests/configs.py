"""The configs of the tests: what params.yaml says (of another data set, what its group in conf/ says), in tiny sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipeline.baselines.glide.config import GlideConfig
from pipeline.baselines.pmg.config import PmgConfig, RetrievedPmgConfig
from pipeline.baselines.sd.config import StableDiffusionConfig
from pipeline.baselines.ti.config import RetrievedInversionConfig, TextualInversionConfig
from pipeline.captioning import CaptioningConfig
from pipeline.conditioning.config import CalibratorConfig, MapperConfig
from pipeline.data.adapters.artmoji import ArtMojiConfig
from pipeline.data.adapters.folder import FolderConfig
from pipeline.data.adapters.ml_latest import MlLatestConfig
from pipeline.data.adapters.pigeon import PigeonConfig
from pipeline.data.adapters.pog import PogConfig
from pipeline.data.adapters.ser30k import Ser30kConfig
from pipeline.data.adapters.stylemoji import StyleMojiConfig
from pipeline.embedding import EmbeddingConfig
from pipeline.evaluation.config import EvaluationConfig
from pipeline.generation.config import GenerationConfig
from pipeline.keywords.extract import KeywordsConfig
from pipeline.keywords.preference import PreferenceConfig
from pipeline.params import build_config, read_document
from pipeline.ranker.config import RankerConfig
from pipeline.ranker_check.config import CheckConfig
from pipeline.reflection.config import ReflectionConfig
from pipeline.retrieval.config import RetrievalConfig
from pipeline.runtime import RuntimeConfig

T = TypeVar("T")
REPO = Path(__file__).resolve().parents[1]
PARAMS = read_document(REPO / "params.yaml")


def read_default(section: str, config_class: type[T], **changes: Any) -> T:
    """Return the config of a section of params.yaml with some changes."""
    return replace(build_config(PARAMS[section], config_class, where=section), **changes)


def read_block(name: str) -> dict[str, Any]:
    """Return what a data set's file in conf/ says of the block `dataset`; a file may set other blocks too."""
    document = yaml.safe_load((REPO / "conf" / "dataset" / f"{name}.yaml").read_text(encoding="utf-8"))
    return document.get("dataset", document)


def read_data_set(name: str, config_class: type[T], **changes: Any) -> T:
    """Return the config of a data set with some changes; its folder is the test's to name."""
    return replace(build_config(read_block(name), config_class, where=name), raw="nowhere", image_size=32, image_format="png", **changes)


RUNTIME = read_default("runtime", RuntimeConfig, device="cpu", num_threads=1, workers=1, checkpoint_every=2)
CAPTIONING = read_default("captioning", CaptioningConfig, num_beams=2, max_new_tokens=6, batch_size=4, max_rejected_fraction=0.5)
EMBEDDING = read_default("embedding", EmbeddingConfig, semantic_text="caption", batch_size=4, max_rejected_fraction=0.5)
RETRIEVAL = read_default("retrieval", RetrievalConfig, k=2, center=False)
KEYWORDS = read_default("keywords", KeywordsConfig, batch_size=2, max_rejected_fraction=1.0)
PREFERENCE = read_default(
    "preference",
    PreferenceConfig,
    keywords_from="retrieved",
    min_count=2,
    min_keywords=0,
    reference_in_prompt="text+caption",
    max_rejected_fraction=1.0,
)
RANKER = read_default(
    "ranker",
    RankerConfig,
    embedding_dim=8,
    num_neighbors=5,
    image_text_weight=0.0,
    epochs=6,
    batch_size=64,
    learning_rate=0.02,
    negatives="all",
    contrastive_anchors=0,
    validate_every=2,
    patience=10,
)
RANKER_CHECK = read_default(
    "ranker_check", CheckConfig, encoding_batch_size=4, embedding_dim=8, hidden_dim=32, batch_size=64, learning_rate=0.02, epochs=20, patience=20
)
CALIBRATOR = read_default("calibrator", CalibratorConfig)
MAPPER = read_default(
    "mapper",
    MapperConfig,
    prompt="caption",
    leave_one_out_k=2,
    max_text_tokens=8,
    num_img_tokens=2,
    d_model=16,
    num_layers=1,
    num_heads=2,
    ffn_dim=16,
    img_steps=3,
    img_batch_size=2,
    mapper_steps=6,
    attention_steps=0,
    batch_size=4,
    states_batch_size=4,
    learning_rate=0.01,
    warmup_steps=2,
    max_captions=8,
    held_out_captions=2,
    held_out_every=2,
)
REFLECTION = read_default(
    "reflection",
    ReflectionConfig,
    num_steps=6,
    batch_cases=2,
    learning_rate=0.01,
    sigma=0.3,
    reward_steps=4,
    reward_guidance=2.0,
    validation_cases=4,
    validation_every=2,
    patience=0,
)
SD = read_default("sd", StableDiffusionConfig, num_steps=4, batch_size=2, learning_rate=0.01, validation_images=2, validation_every=2)
GLIDE = read_default("glide", GlideConfig)
GLIDE = replace(
    GLIDE,
    tuning=replace(GLIDE.tuning, num_steps=4, batch_size=2, learning_rate=0.001, validation_images=2, validation_every=2),
    sampling=replace(GLIDE.sampling, steps=2, upsample_steps=2),
)
TI = read_default(
    "ti",
    TextualInversionConfig,
    init_word="s",
    template="{text} {style}",
    num_steps=6,
    images_per_step=2,
    noises_per_image=2,
    users_per_batch=2,
    learning_rate=0.05,
    held_out_images=1,
    held_out_draws=3,
    held_out_every=4,
    max_rejected_fraction=0.5,
)
TI_RETRIEVED = read_default("ti_retrieved", RetrievedInversionConfig, num_steps=3)
PMG = read_default(
    "pmg",
    PmgConfig,
    max_items=3,
    num_keywords=3,
    num_target_keywords=2,
    max_new_tokens=8,
    batch_size=2,
    num_prefix=2,
    num_soft=2,
    train_cases=3,
    num_steps=4,
    batch_cases=2,
    images_per_case=2,
    learning_rate=0.01,
    validation_cases=2,
    validation_every=2,
    max_rejected_fraction=0.5,
)
PMG_RETRIEVED = read_default("pmg_retrieved", RetrievedPmgConfig, num_steps=2, images_per_case=1)
GENERATION = read_default("generation", GenerationConfig, steps=4, guidance_scale=2.0, batch_size=3, max_rejected_fraction=0.5)
EVALUATION = read_default("evaluation", EvaluationConfig, image_size=16, batch_size=4, num_resamples=200, max_rejected_fraction=0.5)

STYLEMOJI = read_default(
    "dataset",
    StyleMojiConfig,
    num_users=30,
    num_concepts=64,
    image_size=16,
    history_length=8,
    groups_per_user=2,
    noise=0.25,
    splits=(0.4, 0.2, 0.4),
)
ARTMOJI_BLOCK = read_block("artmoji") | {"raw": str(REPO / "data" / "raw" / "artmoji")}
ARTMOJI_SMALL = {name: value for name, value in read_block("artmoji_small").items() if name != "defaults"}
ARTMOJI = build_config(ARTMOJI_BLOCK | ARTMOJI_SMALL | {"image_size": 16}, ArtMojiConfig, where="artmoji_small")
ARTMOJI_FULL = build_config(ARTMOJI_BLOCK, ArtMojiConfig, where="artmoji")
SPLITS = {"splits": (0.5, 0.25, 0.25)}
COUNTS = {"paper_users": 10, "paper_items": 50}
FOLDER = read_data_set("folder", FolderConfig, history_length=6, **SPLITS)
ML_LATEST = read_data_set("ml_latest", MlLatestConfig, history_length=6, max_rejected_fraction=1.0, **SPLITS, **COUNTS)
POG = read_data_set("pog", PogConfig, history_length=6, num_users=10, spare_users=3, spare_items=2, **SPLITS, **COUNTS)
SER30K = read_data_set("ser30k", Ser30kConfig, history_length=7, num_users=12, stickers_per_theme=4, max_rejected_fraction=1.0, **SPLITS, **COUNTS)
PIGEON = read_data_set("pigeon", PigeonConfig, max_rejected_fraction=1.0, **COUNTS)
