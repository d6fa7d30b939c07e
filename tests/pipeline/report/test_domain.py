"""Whether a catalogue is of the models' domain. Run: python -m pytest tests/pipeline/report/test_domain.py -q"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import write_table
from pipeline.data.openmoji import STYLES, is_held_out, read_concepts, render_sticker
from pipeline.json_files import read_json
from pipeline.models.encoders import load_clip
from pipeline.models.folders import compute_model_revision
from pipeline.report.domain import DomainFit, measure_domain
from pipeline.schemas import EMBEDDINGS
from tests.test_repo_rules import REPO

REFERENCE = REPO / "embedded" / "domain.json"
REVISION = "clip-x"


def write_vectors(path: Path, cosines: list[float], *, clip: str = "embedded/clip", revision: str = REVISION) -> Path:
    """Write items whose picture and text have these cosines."""
    rows = [
        {"item_id": f"i{n:03}", "semantic": [1.0, 0.0], "visual": [1.0, 0.0], "clip_image": [cosine, (1 - cosine**2) ** 0.5]}
        for n, cosine in enumerate(cosines)
    ]
    write_table(
        path,
        rows,
        EMBEDDINGS,
        provenance={"clip": clip, "revisions": [revision, "visual-y"]},
        dims=dict.fromkeys(("semantic", "visual", "clip_image"), 2),
    )
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    (tmp_path / "domain.json").write_text(json.dumps({"clip": "embedded/clip", "revision": REVISION, "limit": 0.25}))
    return tmp_path / "domain.json"


def test_pictures_that_fit_their_text_worse_than_held_out_stickers_are_counted(tmp_path: Path, reference: Path) -> None:
    assert measure_domain(write_vectors(tmp_path / "a.parquet", [0.1, 0.24, 0.26, 0.9, -0.2]), reference) == DomainFit(5, 3)


def test_of_another_clip_or_another_version_of_it_nothing_is_said(tmp_path: Path, reference: Path) -> None:
    assert measure_domain(write_vectors(tmp_path / "a.parquet", [0.1], clip="ViT-L-14/openai"), reference) is None
    assert measure_domain(write_vectors(tmp_path / "b.parquet", [0.1], revision="clip-z"), reference) is None
    assert measure_domain(write_vectors(tmp_path / "c.parquet", []), reference) is None


@pytest.mark.parametrize(("num_far", "is_outside"), [(0, False), (25, False), (26, True), (100, True)])
def test_a_catalogue_is_outside_if_more_than_a_quarter_is_far(num_far: int, is_outside: bool) -> None:
    assert DomainFit(100, num_far).is_outside is is_outside


def test_the_shipped_reference_is_that_of_the_shipped_clip() -> None:
    known = read_json(REFERENCE)
    assert (known["clip"], known["revision"]) == ("embedded/clip", compute_model_revision("embedded/clip"))


def draw_photograph(rng: np.random.Generator) -> Image.Image:
    """Draw soft patches of colour with grain: what photographs have and stickers do not."""
    soft = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(soft).astype(int) + rng.integers(-12, 13, (96, 96, 3))).clip(0, 255).astype(np.uint8))


@pytest.mark.slow
def test_held_out_stickers_are_of_the_domain_and_photographs_and_noise_are_not(tmp_path: Path) -> None:
    """With the shipped CLIP: 24 stickers that no model has seen, and as many made pictures under the same names."""
    pairs = [(concept, style) for concept in read_concepts(300) for style in STYLES if is_held_out(concept.hexcode, style)][:24]
    clip, rng = load_clip("embedded/clip"), np.random.default_rng(0)
    texts = clip.encode_texts([concept.name for concept, _ in pairs]).numpy()
    kinds = {
        "stickers": [Image.fromarray(np.asarray(render_sticker(concept, style, size=64))) for concept, style in pairs],
        "photographs": [draw_photograph(rng) for _ in pairs],
        "noise": [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in pairs],
    }
    found = {}
    for kind, images in kinds.items():
        vectors = zip(texts.tolist(), clip.encode_images(images).numpy().tolist(), strict=True)
        rows = [{"item_id": f"i{n:02}", "semantic": text, "visual": text, "clip_image": image} for n, (text, image) in enumerate(vectors)]
        provenance = {"clip": "embedded/clip", "revisions": [compute_model_revision("embedded/clip")]}
        write_table(
            tmp_path / f"{kind}.parquet",
            rows,
            EMBEDDINGS,
            provenance=provenance,
            dims=dict.fromkeys(("semantic", "visual", "clip_image"), texts.shape[1]),
        )
        found[kind] = measure_domain(tmp_path / f"{kind}.parquet", REFERENCE)
    assert {kind: fit.is_outside for kind, fit in found.items()} == {"stickers": False, "photographs": True, "noise": True}
    assert found["stickers"].num_far <= 3
    assert min(found["photographs"].num_far, found["noise"].num_far) >= 22
