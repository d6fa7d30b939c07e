"""Which ways are compared in which stage, and when two outcomes of a row are the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.bench import loops, ours
from tests.bench.models import Setting
from tests.bench.timing import Contest

MIN_COSINE = 0.999  # of a row's vectors
MAX_DIFFERENCE = 1.0  # levels of 255, the mean over a picture

# The second keyword loop is a stricter one, which few would write; it does not count towards the whole
EXTRA = "keywords, prefix cached"


def build_contests(setting: Setting) -> list[Contest]:
    """Build the stages' contests in the pipeline's order; the keywords need the captions."""
    keywords, loop = ours.Keywords(setting), loops.KeywordLoop(setting)
    return [
        Contest("captioning", ours.Captions(setting), loops.CaptionLoop(setting), is_equal),
        Contest("embedding", ours.Vectors(setting), loops.VectorLoop(setting), is_parallel),
        Contest("keywords", keywords, loop, is_equal),
        Contest(EXTRA, keywords, loops.KeywordLoop(setting, cached=True, shared=loop), is_equal),
        Contest("drawing", ours.Pictures(setting), loops.PictureLoop(setting), looks_alike),
    ]


def is_equal(first: Any, second: Any) -> bool:
    """Compare captions or keywords."""
    return first == second


def is_parallel(first: np.ndarray, second: np.ndarray) -> bool:
    """Compare vectors."""
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second)) > MIN_COSINE


def looks_alike(first: bytes, second: bytes) -> bool:
    """Compare encoded pictures."""
    left, right = (np.asarray(loops.open_image(data), dtype=np.float32) for data in (first, second))
    return left.shape == right.shape and float(np.abs(left - right).mean()) < MAX_DIFFERENCE
