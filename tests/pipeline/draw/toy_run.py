"""A finished run in a folder, with toy tables and stand-ins for its models: what `make draw` reads, without any training."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import pipeline.draw.judging
import pipeline.draw.wishes
import pipeline.generation.run
from pipeline.artifacts import build_table, write_table, write_tensors
from pipeline.data.cases import select_cases
from pipeline.data.images import encode_png
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.new_items import NewItems
from pipeline.draw.pictures import Candidate
from pipeline.draw.scores import SHOWN, Scored
from pipeline.fingerprint import compute_fingerprint
from pipeline.keywords.preference import PreferenceBuilder, build_preferences
from pipeline.models.fake import FakeDiffusion
from pipeline.models.text_budget import UNBOUNDED
from pipeline.params import read_section
from pipeline.retrieval.history import retrieve_histories
from pipeline.schemas import (
    CAPTIONS,
    CASES,
    EMBEDDINGS,
    GENERATED,
    INTERACTIONS,
    ITEMS,
    KEYWORDS,
    LABELS,
    PREFERENCES,
    RETRIEVED,
)
from tests.configs import REPO

NUM_ITEMS, NUM_USERS, HISTORY = 24, 6, 8
DIM = 5


def draw_disc(level: int, *, size: int = 24, at: int = 12) -> Image.Image:
    """Draw a disc of one colour on white."""
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((at - 6, at - 6, at + 6, at + 6), fill=(level, 255 - level, 40))
    return image


def make_items() -> list[dict[str, Any]]:
    rows = []
    for index in range(NUM_ITEMS):
        data = encode_png(draw_disc(10 * index))
        digest = hashlib.sha256(data).hexdigest()
        text = f"thing {index}"
        rows.append({"item_id": f"item-{index:02d}", "image": {"bytes": data, "path": None}, "text": text, "category": "", "image_sha256": digest})
    return rows


def make_cases() -> list[dict[str, Any]]:
    rows = []
    for user in range(NUM_USERS):
        history = [f"item-{(3 * user + 2 * place) % NUM_ITEMS:02d}" for place in range(HISTORY)]
        reference = next(f"item-{index:02d}" for index in range(NUM_ITEMS) if f"item-{index:02d}" not in history)
        split = "test" if user % 2 else "train"
        row = {"case_id": f"case-{user}", "user_id": f"user-{user}", "split": split, "history": history, "reference_id": reference}
        rows.append({**row, "truth_id": None})
    return rows


class ToyRun:
    """The folder of a finished run; `run` is what the library makes of it."""

    def __init__(self, folder: Path) -> None:
        shutil.copy(REPO / "dvc.yaml", folder)
        shutil.copy(REPO / "params.yaml", folder)
        self.folder, self.run = folder, FinishedRun(folder)
        self.items, self.cases = make_items(), make_cases()
        self.write_tables()

    def write_tables(self) -> None:
        """Write what the stages before generation write, by their own functions where these need no model."""
        run, ids = self.run, [row["item_id"] for row in self.items]
        vectors = np.random.default_rng(0).normal(size=(len(ids), DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        table = {name: vector.tolist() for name, vector in zip(ids, vectors, strict=True)}
        embeddings = build_table([{"item_id": i, "semantic": v, "visual": v, "clip_image": v} for i, v in table.items()], EMBEDDINGS)
        keywords = build_table([{"item_id": i, "keywords": [f"word {int(i[-2:]) % 4}", "thing"]} for i in ids], KEYWORDS)
        captions = build_table([{"item_id": i, "caption": f"a picture of {i}"} for i in ids], CAPTIONS)
        items, cases = build_table(self.items, ITEMS), build_table(self.cases, CASES)
        interactions = [
            {"user_id": row["user_id"], "item_id": item_id, "position": place} for row in self.cases for place, item_id in enumerate(row["history"])
        ]
        retrieved = build_table(retrieve_histories(cases, embeddings, run.retrieval, seed=run.seed)[0], RETRIEVED)
        builder = PreferenceBuilder(run.preference, items=items, captions=captions, keywords=keywords, retrieved=retrieved)
        preferences = build_table(build_preferences(cases, builder)[0], PREFERENCES)
        self.write("evaluation", "items", items, ITEMS, None)
        self.write("evaluation", "cases", cases, CASES, read_section(run.params, "dataset"))
        self.write("ranker", "interactions", build_table(interactions, INTERACTIONS), INTERACTIONS, None)
        self.write("evaluation", "labels", LABELS.build_empty(), LABELS, None)
        self.write("evaluation", "captions", captions, CAPTIONS, run.captioning)
        self.write("evaluation", "embeddings", embeddings, EMBEDDINGS, run.embedding)
        self.write("preference", "keywords", keywords, KEYWORDS, None)
        self.write("evaluation", "retrieved", retrieved, RETRIEVED, run.retrieval)
        self.write("report", "preferences", preferences, PREFERENCES, run.preference.describe())
        write_tensors(self.run.list_method_files("sd")["lora"], {})

    def write(self, stage: str, option: str, rows: Any, table: Any, params: object) -> None:
        """Write a table where a stage reads it."""
        write_table(self.run.locate(stage, option), rows, table, provenance={"params": compute_fingerprint(params)})

    def write_generated(self, method: str, images: dict[str, bytes], identity: object) -> None:
        """Write what the run has drawn by a method."""
        rows = [{"method": method, "case_id": case_id, "image": {"bytes": image, "path": None}} for case_id, image in images.items()]
        write_table(self.run.locate_generated(method), rows, GENERATED, provenance={"identity": identity})

    def write_requests(self, lines: Sequence[str], name: str = "requests.csv") -> Path:
        """Write a table of requests."""
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def list_test_cases(self) -> list[Any]:
        """Return the run's test cases with their prompts."""
        return select_cases(self.run.cases, self.run.preferences, ["test"])


def score_as_told(candidates: Sequence[Candidate], pictures: dict, run: FinishedRun, new_items: NewItems, models: object) -> dict:
    """Stand in for the scoring: every picture is preferred, the more the later the candidate, and its caption is what the reference is called."""
    texts = dict(zip(run.items["item_id"].to_pylist(), run.items["text"].to_pylist(), strict=True))
    scored = {}
    for candidate in candidates:
        key = (candidate.wish.request.method, candidate.case.case_id)
        if key in pictures:
            gain = 0.5 + 0.1 * candidate.index
            values = {"delta_r": gain, "delta_r_check": gain, "rank_original": 10.0, "rank_generated": 5.0, "cs": 30.0}
            scored[key] = Scored({name: values.get(name) for name in SHOWN}, 30.0, f"a {texts.get(candidate.case.reference_id, 'thing')}")
    return scored


def stand_in_models(monkeypatch: pytest.MonkeyPatch) -> FakeDiffusion:
    """Put stand-ins in the place of the models; return the one that draws."""
    diffusion = FakeDiffusion(image_size=24)
    monkeypatch.setattr(pipeline.generation.run, "load_diffusion", lambda *_, **__: diffusion)
    monkeypatch.setattr(pipeline.generation.run, "compute_model_revision", lambda reference: f"toy {reference}")
    monkeypatch.setattr(pipeline.generation.run, "load_text_budget", lambda reference: UNBOUNDED)
    monkeypatch.setattr(pipeline.draw.wishes, "load_text_budget", lambda reference: UNBOUNDED)
    monkeypatch.setattr(pipeline.draw.judging, "score_candidates", score_as_told)
    torch.set_num_threads(1)
    return diffusion
