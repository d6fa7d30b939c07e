"""A toy world for the evaluation: three users, three methods, and models that judge by brightness."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.artifacts import build_table
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.inputs import Generated, build_catalogue, build_tasks
from pipeline.evaluation.run import build_scores, score_all
from pipeline.evaluation.scoring import EvaluationModels
from pipeline.metrics.definitions import define_metrics
from pipeline.models.fake import FakeClip
from pipeline.models.judge import JudgeConfig, Verdict
from pipeline.models.perceptual import Perceptual
from pipeline.schemas import CAPTIONS, CASES, GENERATED, ITEMS, LABELS, RETRIEVED
from tests.broken_items import TableImages
from tests.configs import EVALUATION as CONFIG

SIZE = 16
METRICS = define_metrics("effnet")


def make_png(seed: int, *, dark: bool = False) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 128, size=(SIZE, SIZE, 3), dtype=np.uint8) + (0 if dark else 127)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def make_item(item_id: str, image: bytes, text: str) -> dict:
    digest = hashlib.sha256(image).hexdigest()
    return {"item_id": item_id, "image": {"bytes": image, "path": None}, "text": text, "category": "c", "image_sha256": digest}


class StubJudge:
    """Calls dark images `neon` and knows one concept only."""

    config = JudgeConfig(styles=("classic", "neon"), concepts=("thing",), image_size=SIZE)

    def encode_images(self, images):
        return torch.tensor([[float(image.mean()) / 255, 1.0] for image in images])

    def name_images(self, images):
        return [Verdict("neon" if image.mean() < 128 else "classic", ("thing",)) for image in images]


class StubRanker:
    """Knows three users; the substituted rank is 1 for dark images and 5 for light ones, the original rank 5."""

    image_feature = "clip_image"

    def __init__(self):
        self.user_index = {"u0": 0, "u1": 1, "u2": 2}
        self.item_index = {f"i{n}": n for n in range(12)}
        self.excluded = []

    def rank_original(self, user_ids, reference_ids, *, exclude):
        self.excluded = exclude
        return torch.full((len(user_ids),), 5)

    def rank_substituted(self, user_ids, reference_ids, features_BD, *, exclude, negatives=None):
        assert negatives is None or all(len(row) == 2 for row in negatives)
        dark = features_BD @ FakeClip().encode_images([Image.new("RGB", (2, 2))])[0] > 0
        return torch.where(dark, 1, 5)

    def draw_negatives(self, keys, reference_ids, *, exclude, count, seed):
        return [["i1", "i2"] for _ in keys]


class CountingClip(FakeClip):
    """Notes the images and texts that it encodes."""

    def __init__(self):
        super().__init__()
        self.texts = []
        self.num_images = 0

    def encode_images(self, images):
        self.num_images += len(images)
        return super().encode_images(images)

    def encode_texts(self, texts):
        self.texts += texts
        return super().encode_texts(texts)


def make_perceptual() -> Perceptual:
    pool = nn.AvgPool2d(4)
    return Perceptual("effnet", nn.Identity(), lambda x: [x - 0.5, pool(x) - 0.5], channel_weights=None, device=torch.device("cpu"))


@dataclass
class World:
    """Three users with a light reference (i0), a dark truth (i1) and a history of four items, one of them broken."""

    items: list[dict] = field(default_factory=list)
    cases: list[dict] = field(default_factory=list)
    generated: dict[str, list[dict]] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)

    def build(self, config: EvaluationConfig = CONFIG):
        items = build_table(self.items, ITEMS)
        captions = build_table([{"item_id": i, "caption": c} for i, c in self.captions.items()], CAPTIONS)
        labels = build_table([{"item_id": "i1", "style": "neon", "concept": "thing"}], LABELS)
        catalogue = build_catalogue(items, TableImages(items), captions, labels, source=config.text)
        rows = [("k0", 0, "i2"), ("k0", 1, "i3"), ("k1", 0, "i4")]
        names = ("case_id", "rank", "item_id")
        retrieved = build_table([dict(zip(names, row, strict=True)) | {"similarity": 0.5, "weight": 0.5} for row in rows], RETRIEVED)
        tasks, missing = build_tasks(build_table(self.cases, CASES), self.list_generated(), retrieved, catalogue, config)
        return catalogue, tasks, missing

    def list_generated(self) -> list[Generated]:
        """List what every method has drawn."""
        tables = [build_table(rows, GENERATED) for rows in self.generated.values()]
        return [Generated(table["method"][0].as_py(), tuple(table["case_id"].to_pylist()), TableImages(table, "case_id")) for table in tables]


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    items = [make_item(f"i{n}", make_png(n, dark=n == 1), f"word{n}") for n in range(6)]
    items[5] = make_item("i5", b"\x89PNG broken", "word5")
    world = World(items=items, captions={f"i{n}": f"a caption {n}." for n in range(6)})
    for n in range(3):
        history = ["i2", "i3", "i4", "i5"]
        case = {"case_id": f"k{n}", "user_id": f"u{n}", "split": "test", "history": history, "reference_id": "i0", "truth_id": "i1"}
        world.cases.append(case)
    for method, image in (("original", items[0]), ("truth", items[1]), ("ragar", None)):
        images = [image["image"]["bytes"] if image else make_png(100 + n, dark=n == 0) for n in range(3)]
        world.generated[method] = [{"method": method, "case_id": f"k{n}", "image": {"bytes": images[n], "path": None}} for n in range(3)]
    return world


def make_models(**changes) -> EvaluationModels:
    models = EvaluationModels(CountingClip(), None, StubRanker(), make_perceptual(), StubJudge())
    return replace(models, **changes)


def run(world: World, config: EvaluationConfig = CONFIG, models: EvaluationModels | None = None, **options: Any):
    catalogue, tasks, missing = world.build(config)
    options = {"known_images": None, "inputs": "f", "seed": 0, **options}
    result = score_all(tasks, world.list_generated(), catalogue, models or make_models(), config, **options)
    return build_scores(tasks, result, METRICS), result, tasks, missing


def pick(scores: pa.Table, method: str, case_id: str) -> dict:
    return next(row for row in scores.to_pylist() if (row["method"], row["case_id"]) == (method, case_id))
