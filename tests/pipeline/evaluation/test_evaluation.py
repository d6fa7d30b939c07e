"""Scores, ledger and summary of the evaluation on a toy world. Run: python -m pytest tests/pipeline/evaluation -q"""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts import build_table, write_table
from pipeline.data.images import decode_image
from pipeline.engine import Current
from pipeline.evaluation import features as features_module
from pipeline.evaluation.features import ItemStore
from pipeline.evaluation.inputs import describe_item
from pipeline.evaluation.run import list_generated
from pipeline.evaluation.scoring import build_rank_columns
from pipeline.evaluation.summary import build_summary, describe_users, flatten_metrics, list_rows
from pipeline.models.fake import FakeClip
from pipeline.models.text_budget import TextBudget
from pipeline.schemas import CASES, GENERATED, SCORES
from tests.pipeline.evaluation.conftest import CONFIG, METRICS, SIZE, CountingClip, make_item, make_models, make_perceptual, make_png, pick, run


def test_original_is_the_floor_and_truth_the_ceiling(world):
    scores, *_ = run(world)
    original, truth = pick(scores, "original", "k0"), pick(scores, "truth", "k0")
    assert original["delta_r"] == 0
    assert original["log2_rank_gain"] == 0
    assert original["rank_improved"] == 0
    assert original["cis"] == pytest.approx(100, abs=1e-3)  # float32 cosine
    assert original["effnet_sem"] == 0
    assert original["ssim_sem"] == pytest.approx(100)
    assert truth["effnet_truth"] == 0
    assert truth["ssim_truth"] == pytest.approx(100)
    assert truth["cis_truth"] == pytest.approx(100, abs=1e-3)
    assert (original["style_accuracy"], truth["style_accuracy"]) == (0.0, 1.0)
    assert original["concept_accuracy"] == original["concept_top5"] == 1.0


def test_rank_metrics_of_a_worked_case(world):
    row = pick(run(world)[0], "ragar", "k0")  # dark: rank 5 becomes 1
    assert row["delta_r"] == pytest.approx((5 - 1) / (1 + 5))
    assert row["log2_rank_gain"] == pytest.approx(np.log2(5))
    assert (row["hit_at_10"], row["ndcg_at_10"], row["rank_improved"]) == (1.0, 1.0, 1.0)
    columns = build_rank_columns(torch.tensor([3, 2]), torch.tensor([11, 3]), torch.tensor([10, 1]))
    assert columns["hit_at_10"].tolist() == [0.0, 1.0]
    assert columns["ndcg_at_10"].tolist() == pytest.approx([0.0, 1 / np.log2(4)])
    assert columns["hit_at_10_sampled"].tolist() == [1.0, 1.0]


def test_the_users_history_is_masked_for_the_ranker(world):
    models = make_models()
    run(world, models=models)
    assert all(row == ["i2", "i3", "i4", "i5"] for row in models.ranker.excluded)


def test_clip_scores_are_means_over_the_history_items(world):
    row = pick(run(world)[0], "ragar", "k1")
    clip = FakeClip()
    image = Image.open(io.BytesIO(world.generated["ragar"][1]["image"]["bytes"]))
    own = clip.encode_images([image])[0]
    history = [Image.open(io.BytesIO(world.items[n]["image"]["bytes"])) for n in (2, 3, 4)]
    assert row["cpis"] == pytest.approx(100 * float((clip.encode_images(history) @ own).mean()), rel=1e-5)
    texts = clip.encode_texts([f"word{n}. a caption {n}" for n in (2, 3, 4, 5)])  # the broken item has a text all the same
    assert row["cps"] == pytest.approx(100 * float((texts @ own).mean()), rel=1e-5)
    assert row["cs"] == pytest.approx(100 * float(clip.encode_texts(["word0. a caption 0"])[0] @ own), rel=1e-5)


def test_perceptual_distance_is_the_mean_over_readable_history_items(world):
    row = pick(run(world)[0], "ragar", "k2")
    model = make_perceptual()
    arrays = [np.asarray(Image.open(io.BytesIO(world.items[n]["image"]["bytes"]))) for n in (2, 3, 4)]
    own = np.asarray(Image.open(io.BytesIO(world.generated["ragar"][2]["image"]["bytes"])))
    distances = model.compute_distances(model.compute_features(own[None]), model.compute_features(np.stack(arrays)))
    assert row["effnet_pers"] == pytest.approx(100 * float(distances.mean()), rel=1e-5)
    assert row["num_history"] == 3


def test_history_may_be_only_the_retrieved_items(world):
    config = replace(CONFIG, history="retrieved")
    scores, _, tasks, _ = run(world, config)
    assert {task.case_id: task.history for task in tasks} == {"k0": ("i2", "i3"), "k1": ("i4",), "k2": ()}
    assert pick(scores, "ragar", "k2")["cpis"] is None
    assert all(task.masked == ("i2", "i3", "i4", "i5") for task in tasks)


def test_an_unreadable_drawn_image_is_rejected_with_its_reason_and_the_rest_scored(world):
    world.generated["ragar"][1]["image"]["bytes"] = b""
    scores, result, tasks, missing = run(world)
    assert result.rejected == {("ragar", "k1"): "The image is empty (0 bytes)."}
    assert scores.num_rows == 8
    summary = build_summary(scores, tasks, METRICS, CONFIG, missing=missing, rejected=result.rejected, facts={"seed": 0})
    assert summary["skipped"]["unreadable_images"] == 1
    assert summary["skipped"]["unreadable_history_items"] == 8
    assert summary["methods"]["ragar"]["cis"]["n"] == 2


def test_what_is_unknown_leaves_only_its_own_metrics_empty(world):
    world.cases[0] |= {"truth_id": None, "user_id": "stranger"}
    del world.captions["i0"]
    world.items[0]["text"] = " "
    row = pick(run(world)[0], "ragar", "k0")
    empty = {name for name, value in row.items() if value is None}
    rank_names = set(build_rank_columns(*[torch.tensor([1])] * 3))
    assert empty == {"style_accuracy", "concept_accuracy", "concept_top5", "cis_truth", "ssim_truth", "effnet_truth"} | rank_names
    assert "cs" not in row  # no reference has a text, so nobody has the column


def test_without_a_judge_there_are_no_style_columns(world):
    scores, *_ = run(world, models=make_models(judge=None))
    assert "style_accuracy" not in scores.column_names


def test_every_item_is_encoded_once_for_all_methods(world):
    models = make_models()
    run(world, models=models)
    assert len(set(models.clip.texts)) == 5  # reference and four history items
    assert len(models.clip.texts) == 8  # two batches of four, the last one filled up
    assert models.clip.num_images == 12 + 8  # 9 drawn images in 3 batches, 6 items in 2


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_bytes(world, tmp_path):
    class DyingClip(CountingClip):
        def encode_images(self, images):
            if self.num_images >= 16:
                raise KeyboardInterrupt
            return super().encode_images(images)

    whole, *_ = run(world, inputs="undisturbed")
    with pytest.raises(KeyboardInterrupt):
        run(world, models=make_models(clip=DyingClip()))
    resumed, result, *_ = run(world)
    assert result.summary.reused == 6
    assert result.summary.computed == 3
    for name, table in (("a", whole), ("b", resumed)):
        write_table(tmp_path / name, table, SCORES, provenance={})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_new_method_computes_only_its_own_rows(world):
    run(world)
    world.generated["new"] = [row | {"method": "new", "image": {"bytes": make_png(55), "path": None}} for row in world.generated["ragar"]]
    _, result, *_ = run(world)
    assert (result.summary.rows_in, result.summary.reused) == (12, 9)


def test_a_methods_scores_do_not_depend_on_the_other_methods(world):
    seen = []

    class WatchedClip(CountingClip):
        def encode_images(self, images):
            seen.append([image.tobytes() for image in images])
            return super().encode_images(images)

    world.generated["again"] = [row | {"method": "again"} for row in world.generated["ragar"]]
    _, result, *_ = run(world, models=make_models(clip=WatchedClip()))
    assert result.summary.computed == 12  # equal images of two methods are scored for each
    drawn = {image.tobytes() for image in map(decode_image, (row["image"]["bytes"] for row in world.generated["ragar"]))}
    assert sum(drawn >= set(batch) for batch in seen) == 2
    assert not any(drawn & set(batch) and set(batch) - drawn for batch in seen)


def test_other_vectors_of_an_item_make_the_scores_of_its_cases_anew(world):
    def make_vectors(seed: int) -> dict[str, torch.Tensor]:
        clip = FakeClip()
        own = {row["item_id"]: clip.encode_images([decode_image(row["image"]["bytes"])])[0] for row in world.items[:5]}
        return own | {"i4": torch.nn.functional.normalize(torch.ones(len(own["i0"])) * seed, dim=0)}

    world.cases[2]["history"] = ["i2", "i3", "i5"]
    first, *_ = run(world, known_images=make_vectors(1))
    second, result, *_ = run(world, known_images=make_vectors(-1))
    assert (result.summary.computed, result.summary.reused) == (6, 3)
    assert pick(first, "ragar", "k0")["cpis"] != pick(second, "ragar", "k0")["cpis"]


def test_a_table_of_several_methods_is_refused_and_an_empty_one_left_out(world, tmp_path):
    rows = [row for name in ("original", "truth") for row in world.generated[name]]
    write_table(tmp_path / "both.parquet", rows, GENERATED, provenance={})
    write_table(tmp_path / "none.parquet", [], GENERATED, provenance={})
    write_table(tmp_path / "one.parquet", world.generated["ragar"], GENERATED, provenance={})
    with pytest.raises(ValueError, match="holds images of the methods original, truth"):
        list_generated([tmp_path / "both.parquet"])
    (found,) = list_generated([tmp_path / "none.parquet", tmp_path / "one.parquet"])
    assert (found.method, found.case_ids) == ("ragar", ("k0", "k1", "k2"))
    assert found.images.read(["k1"])["k1"] == world.generated["ragar"][1]["image"]["bytes"]


def test_models_that_are_asked_side_by_side_say_the_same(world, monkeypatch):
    expected, *_ = run(world, inputs="one after the other")
    threads = set()

    class SeenClip(CountingClip):
        def encode_texts(self, texts):
            threads.add(threading.current_thread())
            return super().encode_texts(texts)

    monkeypatch.setattr(Current, "workers", 2)
    found, result, *_ = run(world, models=make_models(clip=SeenClip()), inputs="side by side")
    assert result.summary.computed == result.summary.rows_in
    assert found.equals(expected)
    assert threading.main_thread() not in threads


def test_the_store_of_feature_maps_stays_within_its_size_and_gives_the_same(world, monkeypatch):
    expected, *_ = run(world, inputs="large")
    monkeypatch.setattr(features_module, "STORE_BYTES", 1)
    scores, *_ = run(world, inputs="small")
    assert scores.equals(expected)


def test_feature_maps_beyond_the_size_are_forgotten(world, monkeypatch):
    catalogue, *_ = world.build()
    store = ItemStore(catalogue, FakeClip(), make_perceptual(), image_size=SIZE, batch_size=1)
    _, one = store.get_pixels(["i0"])
    monkeypatch.setattr(features_module, "STORE_BYTES", 2 * one.count_bytes())
    store.get_pixels(["i1", "i2", "i3"])
    assert list(store._pixels) == ["i2", "i3"]
    assert store._held == 2 * one.count_bytes()


def test_other_splits_are_left_out_and_an_empty_split_is_an_error(world):
    world.cases[0]["split"] = "val"
    assert {task.case_id for task in world.build()[1]} == {"k1", "k2"}
    with pytest.raises(ValueError, match="no case is in that split"):
        world.build(replace(CONFIG, split="train"))


def test_users_of_other_splits_that_are_drawn_are_not_measured_and_said_so(world):
    world.cases[0]["split"] = "train"
    _, tasks, missing, *_ = world.build()
    assert {task.case_id for task in tasks} == {"k1", "k2"}
    assert set(missing.values()) == {0}
    cases = build_table(world.cases, CASES)
    said = "evaluation: metrics over the 2 held-out users (test); 1 of other splits are drawn and not measured."
    assert describe_users(cases, {"k0", "k1", "k2"}, "test") == [said]
    assert describe_users(cases, {"k1", "k2"}, "test") == []


def test_cases_that_a_method_lacks_are_counted_and_a_method_given_twice_is_refused(world):
    world.generated["ragar"].pop()
    assert world.build()[2] == {"original": 0, "truth": 0, "ragar": 1}
    world.generated["again"] = world.generated["ragar"]
    with pytest.raises(ValueError, match="'ragar' is in two of the generated tables"):
        world.build()


def test_summary_pairs_users_and_flattens_the_main_method(world):
    scores, result, tasks, missing = run(world)
    facts = {"seed": 0, "profile": "embedded"}
    summary = build_summary(scores, tasks, METRICS, CONFIG, missing=missing, rejected=result.rejected, facts=facts)
    entry = summary["methods"]["ragar"]["style_accuracy"]
    assert entry["value"] == pytest.approx(1 / 3)
    assert entry["n"] == 3
    assert (entry["low"], entry["high"]) == (None, None)  # three users are too few for an interval
    assert summary["differences"]["truth"]["style_accuracy"]["value"] == pytest.approx(-2 / 3)
    assert set(summary["differences"]) == {"original", "truth"}
    flat = flatten_metrics(summary)
    assert flat["ragar"]["style_accuracy"] == pytest.approx(1 / 3, abs=1e-6)
    assert "num_history" not in flat["ragar"]
    assert set(flat["truth"]) <= {"style_accuracy", "concept_accuracy", "concept_top5", "cis_truth", "cpis", "cis", "delta_r"}
    rows = list_rows(summary)
    assert {row["method"] for row in rows} == {"original", "truth", "ragar"}
    assert set(rows[0]) == {"method", "metric", "value", "low", "high", "n"}


def test_a_long_title_leaves_room_for_the_caption(world):
    world.items[2] = make_item("i2", make_png(2), "Women Summer Boho Floral Print Dress")
    catalogue, *_ = world.build(replace(CONFIG, text="text_and_caption"))
    clip = CountingClip()
    clip.text_budget = TextBudget(lambda text: len(text.split()), 6)
    ItemStore(catalogue, clip, make_perceptual(), image_size=SIZE, batch_size=1).get_texts(["i0", "i2"])
    assert clip.texts == ["word0. a caption 0", "Women Summer Boho. a caption 2"]


def test_text_of_an_item_follows_its_source():
    assert describe_item("dog.", "a neon dog.", "text_and_caption") == "dog. a neon dog"
    assert describe_item("dog", "a neon dog", "caption") == "a neon dog"
    assert describe_item(" ", None, "text_and_caption") == ""
