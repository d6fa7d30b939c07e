"""Made inputs of a page, in which every string holds one word, and a reader that checks HTML."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from pipeline.artifacts import build_table
from pipeline.report.config import ReportConfig
from pipeline.report.inputs import Curves, ReportInputs, Shown, index_retrieved
from pipeline.schemas import RETRIEVED

CONFIG = ReportConfig(title="RAGAR", num_users=3, num_concepts=2, num_rejected=2)
VOID_TAGS = {"img", "meta", "input"}


class Reader(HTMLParser):
    """Reads a page, notes tags, attributes and text, and checks that tags nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def make_png(seed: int, size: int = 16) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size=(size, size, 3), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def make_entry(value: float | None) -> dict:
    return {"value": value, "low": None if value is None else value - 0.1, "high": None if value is None else value + 0.1, "n": 3}


def make_summary(word: str) -> dict:
    names = ("style_accuracy", "concept_accuracy", "effnet_truth", "cis", "delta_r")
    methods = {method: {name: make_entry(0.5) for name in names} for method in ("original", "truth", "ragar", word)}
    methods[word] = {name: make_entry(0.25) for name in names} | {"cis": make_entry(None)}
    methods["original"] |= {"cis": make_entry(1.0), "delta_r": make_entry(0.0)}
    return {
        "profile": word,
        "perceptual": "effnet",
        "main_method": "ragar",
        "methods": methods,
        "differences": {word: {name: make_entry(0.0) for name in names}, "original": {"delta_r": make_entry(0.4), "cis": make_entry(-0.5)}},
        "models": {"metric_clip": word},
        "interval": {"level": 0.95, "num_resamples": 2000, "unit": "user"},
        "seed": 0,
        "num_users": 3,
        "num_cases": 3,
        "split": "test",
        "history": "all",
        "text": word,
        "image_size": 16,
        "skipped": {"unreadable_images": 1, "cases_without_image": {word: 2}},
    }


def make_inputs(word: str = "word", *, broken: bytes = b"", summary: dict | None = None) -> ReportInputs:
    """Four users whose strings all hold `word`; one history item, one drawn image and one reference are broken, one was not drawn."""
    ids = [f"i{n}{word}" for n in range(6)]
    cases = [
        {
            "case_id": f"k{n}{word}",
            "user_id": f"u{n}{word}",
            "split": "train" if n == 3 else "test",
            "history": [ids[2], ids[3], "unknown item"],
            "reference_id": ids[4 if n == 3 else 0],
            "truth_id": None if n == 2 else ids[1],
        }
        for n in range(4)
    ]
    drawn = {case["case_id"]: broken if n == 1 else make_png(10 + n) for n, case in enumerate(cases[:3])}
    hit = {"case_id": cases[0]["case_id"], "rank": 0, "item_id": ids[3], "similarity": 0.5, "weight": 0.9}
    score = {"style_accuracy": 1.0, "concept_accuracy": 0.0, "cis": None, word: 0.5}
    return ReportInputs(
        shown=Shown(
            cases=cases,
            concepts=[(word, {"classic": ids[0], word: ids[1]})],
            item_texts={item_id: f"{word}{n}" for n, item_id in enumerate(ids)},
            items={item_id: broken if n in (2, 4) else make_png(n) for n, item_id in enumerate(ids)},
            drawn={"ragar": drawn, word: drawn},
        ),
        labels={ids[0]: ("classic", word), ids[1]: (word, word)},
        preferences={cases[0]["case_id"]: [word, "red"]},
        retrieved=index_retrieved(build_table([hit], RETRIEVED)),
        scores={(method, case["case_id"]): score for method in ("ragar", "original", word) for case in cases},
        summary=summary or make_summary(word),
        rejected=[{"stage": word, "row_key": f"{word}{n}", "reason": word} for n in range(4)],
        curves={word: Curves(word, {word: [(0.0, 1.0), (1.0, 0.5)]}), "empty": Curves()},
        params={word: {word: [word]}, "report": {"title": word}},
        provenance={"packages": {word: word}},
        num_drawn={"train": 1, "test": 3},
        dataset={"items": 4, "users": 3, "interactions": 9, "cases": {word: 3}, f"more {word}": 7},
    )
