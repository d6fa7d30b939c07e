"""Matched pairs, nearest drawings and the assignment on a toy world. Run: python -m pytest tests/pipeline/evaluation/test_whereabouts.py"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import build_table
from pipeline.evaluation.inputs import build_catalogue, build_tasks
from pipeline.evaluation.run import build_scores, list_styles, score_all
from pipeline.evaluation.summary import build_summary
from pipeline.metrics import intervals
from pipeline.metrics.definitions import define_metrics
from pipeline.models.judge import JudgeConfig, Verdict
from pipeline.report.results import build_metric_row
from pipeline.schemas import CAPTIONS, CASES, ITEMS, LABELS, RETRIEVED
from tests.broken_items import TableImages
from tests.pipeline.evaluation.conftest import CONFIG, METRICS, SIZE, World, make_item, make_models

ARTISTS = {"dark": 30, "grey": 120, "light": 220}  # an artist is a brightness, a thing a noise
NUM_PAIRS = 4


def paint(thing: int, brightness: int) -> bytes:
    noise = np.random.default_rng(thing).integers(-20, 20, size=(SIZE, SIZE, 3))
    buffer = io.BytesIO()
    Image.fromarray((noise + brightness).clip(0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


class ArtJudge:
    """Names the artist by the mean brightness, which is its feature."""

    config = JudgeConfig(styles=tuple(ARTISTS), concepts=tuple(f"thing{n}" for n in range(NUM_PAIRS)), image_size=SIZE)

    def encode_images(self, images):
        import torch

        return torch.tensor([[image.mean() / 255] for image in images])

    def name_images(self, images):
        return [Verdict(min(ARTISTS, key=lambda artist: abs(ARTISTS[artist] - image.mean())), ("thing0",)) for image in images]


class ArtWorld(World):
    """Pairs of users with the same words: `a` likes dark drawings, `b` light ones."""

    def build(self, config=CONFIG):
        items = build_table(self.items, ITEMS)
        rows = [{"item_id": f"t{n}-{artist}", "style": artist, "concept": f"thing{n}"} for n in range(NUM_PAIRS) for artist in ARTISTS]
        captions = build_table([], CAPTIONS)
        catalogue = build_catalogue(items, TableImages(items), captions, build_table(rows, LABELS), source="text")
        tasks, missing = build_tasks(build_table(self.cases, CASES), self.list_generated(), build_table([], RETRIEVED), catalogue, config)
        return catalogue, tasks, missing


@pytest.fixture
def art(tmp_path, monkeypatch) -> ArtWorld:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    items = [make_item(f"t{n}-{artist}", paint(n, light), f"thing {n}") for n in range(NUM_PAIRS) for artist, light in ARTISTS.items()]
    world = ArtWorld(items=items)
    for n in range(NUM_PAIRS):
        for letter, artist in (("a", "dark"), ("b", "light")):
            other = (n + 1) % NUM_PAIRS
            ids = {"case_id": f"{n}{letter}", "user_id": f"u{n}{letter}", "reference_id": f"t{n}-grey", "truth_id": f"t{n}-{artist}"}
            world.cases.append({**ids, "split": "test", "history": [f"t{other}-{artist}"]})
    world.generated = {name: [] for name in ("truth", "words", "swapped")}
    for case in world.cases:
        n, letter = int(case["case_id"][0]), case["case_id"][1]
        own, rival = ("dark", "light") if letter == "a" else ("light", "dark")
        drawn = {"truth": paint(n, ARTISTS[own]), "words": paint(77 + n, 90), "swapped": paint(n, ARTISTS[rival])}
        for name, image in drawn.items():
            world.generated[name].append({"method": name, "case_id": case["case_id"], "image": {"bytes": image, "path": None}})
    return world


def summarise(world: ArtWorld, judge: Any = None) -> dict[str, Any]:
    catalogue, tasks, missing = world.build()
    result = score_all(tasks, world.list_generated(), catalogue, make_models(judge=judge), CONFIG, known_images=None, inputs="f", seed=0)
    scores, left_out = build_scores(tasks, result, METRICS), {"missing": missing, "rejected": result.rejected}
    facts = {"seed": 0, "perceptual": "effnet"}
    return build_summary(scores, tasks, METRICS, CONFIG, **left_out, facts=facts, styles=list_styles(tasks, result))


@pytest.fixture
def summary(art: ArtWorld) -> dict[str, Any]:
    return summarise(art, ArtJudge())


@pytest.mark.parametrize("measure", ["judge", "pixels"])
def test_whose_image_is_whose(art: ArtWorld, monkeypatch: pytest.MonkeyPatch, measure: str) -> None:
    monkeypatch.setattr(intervals, "MIN_USERS", NUM_PAIRS)  # a toy world is too small for an interval
    summary = summarise(art, ArtJudge())
    chosen = {method: entries[f"pair_choice_{measure}"] for method, entries in summary["methods"].items()}
    assert {method: entry["value"] for method, entry in chosen.items()} == {"truth": 1.0, "words": 0.5, "swapped": 0.0}
    assert {entry["n"] for entry in chosen.values()} == {NUM_PAIRS}  # a pair counts once
    assert (chosen["words"]["low"], chosen["words"]["high"]) == (0.5, 0.5)


@pytest.mark.parametrize("measure", ["judge", "pixels"])
def test_an_image_is_nearest_to_the_drawing_that_it_resembles(summary: dict[str, Any], measure: str) -> None:
    nearest = {method: entries[f"nearest_truth_{measure}"] for method, entries in summary["methods"].items()}
    assert {method: entry["value"] for method, entry in nearest.items()} == {"truth": 1.0, "words": 0.0, "swapped": 0.0}  # words: nearest to grey
    assert nearest["truth"]["n"] == 2 * NUM_PAIRS


def test_the_artist_by_the_judge_has_its_own_accuracy_on_the_truths_beside_it(summary: dict[str, Any]) -> None:
    assert {method: entries["style_accuracy"]["value"] for method, entries in summary["methods"].items()} == {"truth": 1, "words": 0, "swapped": 0}
    assert summary["methods"]["truth"]["concept_accuracy"]["value"] == 1 / NUM_PAIRS  # the judge says thing0 of everything
    assert summary["methods"]["truth"]["effnet_truth"]["value"] == 0


def test_the_assignment_is_tested_over_users(summary: dict[str, Any]) -> None:
    p = {method: entries["assignment_p"] for method, entries in summary["methods"].items()}
    assert p["truth"]["n"] == 2 * NUM_PAIRS
    assert p["truth"]["value"] < 0.05  # 2 of the 70 ways to hand out 4 dark and 4 light images are as good: the right one alone
    assert p["words"]["value"] == 1.0
    assert p["swapped"]["value"] == 1.0
    assert (p["truth"]["low"], p["truth"]["high"]) == (None, None)


def test_without_a_judge_pixels_decide_and_its_columns_stay_away(art: ArtWorld) -> None:
    methods = summarise(art)["methods"]
    assert not [name for name in methods["truth"] if name.endswith("_judge") or name == "style_accuracy"]
    assert methods["truth"]["pair_choice_pixels"]["value"] == 1.0
    assert methods["truth"]["assignment_p"]["value"] < 0.05  # by the nearest drawing


def test_users_with_other_words_are_no_pair(art: ArtWorld) -> None:
    art.items = [replace_text(item, f"{item['item_id']} itself") for item in art.items]
    methods = summarise(art, ArtJudge())["methods"]
    assert not [name for name in methods["truth"] if name.startswith("pair_choice")]
    assert methods["truth"]["nearest_truth_judge"]["value"] == 1.0


def replace_text(item: dict[str, Any], text: str) -> dict[str, Any]:
    return {**item, "text": text}


def test_a_case_whose_partner_has_no_image_has_no_choice(art: ArtWorld) -> None:
    art.generated["truth"] = [row for row in art.generated["truth"] if row["case_id"] != "0b"]
    assert summarise(art, ArtJudge())["methods"]["truth"]["pair_choice_judge"]["n"] == NUM_PAIRS - 1


def test_other_drawings_of_the_thing_make_finished_scores_invalid(art: ArtWorld) -> None:
    summarise(art, ArtJudge())
    grey = next(place for place, item in enumerate(art.items) if item["item_id"] == "t1-grey")
    art.items[grey] = make_item("t1-grey", paint(1, ARTISTS["dark"]), "thing 1")  # a tie with the truth, which counts against it
    assert summarise(art, ArtJudge())["methods"]["truth"]["nearest_truth_judge"]["value"] == 1 - 1 / (2 * NUM_PAIRS)


def test_the_page_says_what_n_counts(summary: dict[str, Any]) -> None:
    summary["main_method"] = "words"
    metrics = {metric.name: metric for metric in define_metrics("effnet")}
    said = {"pair_choice_judge": f"the mean of {NUM_PAIRS} pairs", "style_accuracy": "the mean of 8 users", "assignment_p": "one test of 8 images"}
    for name, words in said.items():
        assert {cell.tooltip for cell in build_metric_row(metrics[name], summary).cells} == {f"This is {words}."}


def test_a_config_of_another_history_keeps_the_pairs(art: ArtWorld) -> None:
    assert [task.partner_id for task in art.build(replace(CONFIG, history="retrieved"))[1]][:2] == ["0b", "0a"]
