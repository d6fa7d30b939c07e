"""The pipeline's way: each stage's own function, with its ledger, its batches and its image policy. A model is loaded at the first call."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pipeline.artifacts import read_table
from pipeline.captioning import caption_items
from pipeline.data.cases import Case
from pipeline.embedding import VECTORS, Encoders, embed_items
from pipeline.generation.build import build_method
from pipeline.generation.context import GenerationContext
from pipeline.generation.drawing import draw_cases
from pipeline.keywords.extract import extract_keywords
from pipeline.models.captioner import load_captioner
from pipeline.models.diffusion import load_diffusion
from pipeline.models.encoders import load_clip, load_visual
from pipeline.models.lazy import LazyModel
from pipeline.models.llm import LazyLanguageModel, load_language_model
from pipeline.models.text_budget import load_text_budget
from pipeline.schemas import ITEMS
from pipeline.table_images import ImageColumn
from tests.bench.lots import Lot
from tests.bench.models import Setting


class Captions:
    """The stage captioning; leaves the captions in the lot."""

    def __init__(self, setting: Setting) -> None:
        self.config = setting.configs["captioning"]
        load = partial(load_captioner, setting.folders["captioner"], device=setting.device, dtype=setting.dtype)
        self.captioner = LazyModel("captioner", load)

    def __call__(self, lot: Lot) -> dict[str, Any]:
        """Caption the lot's images."""
        items = read_table(lot.items, ITEMS, columns=["image_sha256"])
        with caption_items(items, ImageColumn(lot.items), self.config, captioner=self.captioner) as result:
            lot.captions = {item_id: row["caption"] for item_id, row in result.values.items()}
        return lot.captions


class Vectors:
    """The stage embedding."""

    def __init__(self, setting: Setting) -> None:
        self.config, self.setting = setting.configs["embedding"], setting
        self.encoders = LazyModel("encoders", self._load)

    def _load(self) -> Encoders:
        folders, options = self.setting.folders, {"device": self.setting.device, "dtype": self.setting.dtype}
        clip = load_clip(folders["clip"], **options)
        return Encoders(clip, clip if folders["visual"] == folders["clip"] else load_visual(folders["visual"], **options))

    def __call__(self, lot: Lot) -> dict[str, Any]:
        """Encode the lot's texts and images."""
        items = read_table(lot.items, ITEMS, columns=["image_sha256", "text", "category"])
        with embed_items(items, ImageColumn(lot.items), lot.build_captions(), self.config, encoders=self.encoders) as result:
            return {item_id: np.concatenate([np.frombuffer(row[name], np.float32) for name in VECTORS]) for item_id, row in result.values.items()}


class Keywords:
    """The stage keywords."""

    def __init__(self, setting: Setting) -> None:
        self.config, dtype = setting.configs["keywords"], setting.language_dtype
        load = partial(load_language_model, setting.folders["language_model"], device=setting.device, dtype=dtype)
        self.llm = LazyLanguageModel("language model", load, dtype)

    def __call__(self, lot: Lot) -> dict[str, Any]:
        """Name the lot's keywords, by its captions and texts."""
        items = read_table(lot.items, ITEMS, columns=["text"])
        with extract_keywords(items, lot.build_captions(), self.config, llm=self.llm) as result:
            return {item_id: row["keywords"] for item_id, row in result.values.items()}


class Pictures:
    """The stage generation, method sd: a picture of every item's text."""

    def __init__(self, setting: Setting) -> None:
        self.config, self.setting = setting.configs["generation"], setting
        options = {"device": setting.device, "dtype": setting.dtype, "scheduler": self.config.scheduler}
        self.diffusion = LazyModel("diffusion", partial(load_diffusion, setting.folders["diffusion"], **options))
        self.budget = LazyModel("", partial(load_text_budget, setting.folders["diffusion"]))

    def __call__(self, lot: Lot) -> dict[str, Any]:
        """Draw the lot's texts."""
        cases = [build_case(row["item_id"]) for row in lot.rows]
        context = GenerationContext(
            params=self.setting.params,
            config=self.config,
            seed=self.setting.seed,
            device=self.setting.device,
            cases=cases,
            items=read_table(lot.items, ITEMS, columns=["text", "image_sha256"]),
            images=ImageColumn(lot.items),
            captions=None,
            diffusion=self.diffusion,
            budget=self.budget,
        )
        result = draw_cases(build_method("sd", context), "sd", cases, batch_size=self.config.batch_size, device=self.setting.device)
        return {case_id: row["image"] for case_id, row in result.values.items()}


def build_case(item_id: str) -> Case:
    """Build a case of no user: a text is all that the method sd reads."""
    words = {"keyword_prompt": "", "retrieved_prompt": "", "global_prompt": "", "detailed_prompt": ""}
    return Case(case_id=item_id, user_id="", reference_id=item_id, truth_id=None, history=(), keywords=(), **words)
