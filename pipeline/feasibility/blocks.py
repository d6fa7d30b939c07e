"""Which config owns which block of the params, so that a value that some late stage refuses is refused before the first one runs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pydantic.dataclasses import is_pydantic_dataclass

from pipeline.baselines.glide.config import GlideConfig
from pipeline.baselines.lavit.config import LavitConfig
from pipeline.baselines.pmg.config import PmgConfig, RetrievedPmgConfig
from pipeline.baselines.sd.config import StableDiffusionConfig
from pipeline.baselines.ti.config import RetrievedInversionConfig, TextualInversionConfig
from pipeline.captioning import CaptioningConfig
from pipeline.conditioning.config import CalibratorConfig, MapperConfig
from pipeline.data import adapters
from pipeline.embedding import EmbeddingConfig
from pipeline.evaluation.config import EvaluationConfig
from pipeline.generation.config import LOOK_METHODS, OWN_MODELS, GenerationConfig
from pipeline.keywords.extract import KeywordsConfig
from pipeline.keywords.preference import PreferenceConfig
from pipeline.looks.config import LookTrainingConfig
from pipeline.models.folders import PREFIX, list_shipped
from pipeline.models.look_pair import check_pair
from pipeline.params import check_seed, find_fault
from pipeline.ranker.config import RankerConfig
from pipeline.ranker_check.config import CheckConfig
from pipeline.reflection.config import ReflectionConfig
from pipeline.report.config import ReportConfig
from pipeline.retrieval.config import RetrievalConfig
from pipeline.runtime import RuntimeConfig

CHANGES_NO_RESULT = True

CONFIGS = {
    "captioning": CaptioningConfig,
    "embedding": EmbeddingConfig,
    "retrieval": RetrievalConfig,
    "keywords": KeywordsConfig,
    "look": LookTrainingConfig,
    "preference": PreferenceConfig,
    "ranker": RankerConfig,
    "ranker_check": CheckConfig,
    "calibrator": CalibratorConfig,
    "mapper": MapperConfig,
    "reflection": ReflectionConfig,
    "sd": StableDiffusionConfig,
    "ti": TextualInversionConfig,
    "ti_retrieved": RetrievedInversionConfig,
    "pmg": PmgConfig,
    "pmg_retrieved": RetrievedPmgConfig,
    "glide": GlideConfig,
    "lavit": LavitConfig,
    "generation": GenerationConfig,
    "evaluation": EvaluationConfig,
    "report": ReportConfig,
}


def check_given(document: dict[str, Any], *, where: str) -> None:
    """Raise ValueError on the first value in the params that its stage would refuse; what is missing is left to the stage."""
    if "seed" in document:
        check_seed(document["seed"], where=where)
    for name, config in {**CONFIGS, "runtime": RuntimeConfig, "dataset": find_dataset_config(document.get("dataset"))}.items():
        if config is not None and name in document and (fault := find_fault(document[name], config, where=f"{where}: {name}")):
            raise ValueError(fault)
    asking = get(document, "models", "ip_adapter") is None and any(get(document, "comparison", method) for method in LOOK_METHODS)
    if asking or get(document, "preference", "visual_tokens"):
        check_pair(get(document, "models", "look"), get(document, "models", "diffusion"))
    for reference in (str(get(document, "models", method)) for method in OWN_MODELS if get(document, "comparison", method)):
        if reference.startswith(PREFIX):
            list_shipped(reference.removeprefix(PREFIX))  # which may be nothing yet


def get(document: dict[str, Any], block: str, name: str) -> Any:
    """Return a value of a block; None where there is no such block or value, which the stages say."""
    values = document.get(block)
    return values.get(name) if isinstance(values, dict) else None


def find_dataset_config(block: Any) -> type | None:
    """Return the config of the adapter that a `dataset` block names; None if there is no such adapter, which the stage says."""
    name = block.get("name") if isinstance(block, dict) else None
    if not isinstance(name, str) or not (Path(adapters.__path__[0]) / f"{name}.py").is_file():
        return None
    module = importlib.import_module(f"{adapters.__name__}.{name}")
    return next(value for value in vars(module).values() if is_pydantic_dataclass(value) and value.__module__ == module.__name__)
