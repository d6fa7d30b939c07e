"""The stages `evaluation` and `report` on tiny models in their own formats. Run: python -m pytest tests/stages/test_evaluation_and_report.py -q"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from pipeline.artifacts import read_table, write_table
from pipeline.data.images import decode_image
from pipeline.json_files import read_json
from pipeline.models.encoders import VisualEncoder, load_clip, load_visual
from pipeline.models.judge import JudgeConfig, JudgeNetwork
from pipeline.ranker.micro import Micro
from pipeline.ranker.scoring import save_ranker
from pipeline.ranker_check.fit import build_tower
from pipeline.ranker_check.material import build_catalogue, build_data
from pipeline.ranker_check.scoring import save_check
from pipeline.schemas import (
    CAPTIONS,
    CASES,
    EMBEDDINGS,
    GENERATED,
    ITEMS,
    LABELS,
    PREFERENCES,
    REJECTED,
    RETRIEVED,
    SCORES,
    Table,
)
from stages import evaluation, report
from tests.configs import EVALUATION, RANKER, RANKER_CHECK, RUNTIME
from tests.pipeline.ranker_check.conftest import make_interactions
from tests.tiny_encoders import CLIP_DIM, save_tiny_backbone, save_tiny_clip

ITEM_IDS = [f"i{n}" for n in range(12)]
METHODS = ("original", "truth", "ragar")


def make_png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size=(32, 32, 3), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def save_models(folder: Path) -> dict[str, object]:
    """Save a CLIP, a perceptual trunk and a judge, all tiny or random, and return the `models` block."""
    torch.manual_seed(0)
    save_tiny_clip(folder / "clip")
    save_tiny_backbone(folder / "perceptual")
    (folder / "judge").mkdir()
    judge = JudgeConfig(styles=("classic", "neon"), concepts=("dog",), image_size=32, width=4)
    save_file(JudgeNetwork(judge).state_dict(), folder / "judge" / "model.safetensors")
    (folder / "judge" / "config.json").write_text(json.dumps(vars(judge)))
    clip = str(folder / "clip")
    paths = {"perceptual": str(folder / "perceptual"), "check_visual": str(folder / "perceptual"), "judge": {"toy": str(folder / "judge")}}
    return {"profile": "tiny", "dtype": "float32", "clip": clip, "visual": clip, "metric_clip": clip, **paths}


def save_tables(folder: Path) -> None:
    """Save twelve items, two test users and one of another split, and every table that the stages read."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(ITEM_IDS), CLIP_DIM)).tolist()
    images = {item_id: make_png(n) for n, item_id in enumerate(ITEM_IDS)}

    def write(name: str, table: Table, rows: list[dict]) -> None:
        write_table(folder / f"{name}.parquet", rows, table, provenance={})

    def make_image(data: bytes) -> dict[str, object]:
        return {"bytes": data, "path": None}

    items = [{"item_id": i, "image": make_image(images[i]), "text": i, "category": "c", "image_sha256": i} for i in ITEM_IDS]
    cases = [
        {"case_id": f"k{n}", "user_id": f"u{n}", "split": split, "history": ITEM_IDS[2 + n : 6 + n], "reference_id": "i0", "truth_id": "i1"}
        for n, split in enumerate(("test", "test", "train"))
    ]
    embeddings = [dict.fromkeys(("semantic", "visual", "clip_image"), v) | {"item_id": i} for i, v in zip(ITEM_IDS, vectors, strict=True)]
    preferences = [
        {
            "case_id": f"k{n}",
            "keywords": ["red"],
            "counts": [1.0],
            "keyword_prompt": "",
            "retrieved_prompt": "",
            "global_prompt": "",
            "detailed_prompt": "",
        }
        for n in range(2)
    ]
    write("items", ITEMS, items)
    write("cases", CASES, cases)
    write("labels", LABELS, [{"item_id": "i1", "style": "neon", "concept": "dog"}])
    write("captions", CAPTIONS, [{"item_id": i, "caption": "a dog"} for i in ITEM_IDS])
    write("embeddings", EMBEDDINGS, embeddings)
    write("retrieved", RETRIEVED, [{"case_id": "k0", "rank": 0, "item_id": "i2", "similarity": 0.5, "weight": 1.0}])
    write("preferences", PREFERENCES, preferences)
    for method in METHODS:
        drawn = {"original": images["i0"], "truth": images["i1"], "ragar": make_png(99)}[method]
        write(method, GENERATED, [{"method": method, "case_id": f"k{n}", "image": make_image(drawn)} for n in range(2)])


def save_tiny_ranker(path: Path, *, image_feature: str = "clip_image", encoder: VisualEncoder) -> None:
    """Save an untrained ranker over the items and users that sees the items' images by `encoder`."""
    images = [decode_image(make_png(n)) for n in range(len(ITEM_IDS))]
    features = {"image": encoder.encode_images(images).double(), "text": torch.randn(len(ITEM_IDS), CLIP_DIM, dtype=torch.float64)}
    pairs = torch.tensor([[user, item] for user in range(3) for item in range(2 + user, 6 + user)])
    model = Micro(features, pairs, num_users=3, config=replace(RANKER, embedding_dim=4, num_neighbors=3))
    save_ranker(path, model, features, user_ids=["u0", "u1", "u2"], item_ids=ITEM_IDS, image_feature=image_feature)


def save_tiny_check(path: Path, *, encoder: VisualEncoder) -> None:
    """Save an untrained evaluation ranker over the items and users."""
    image_NF = encoder.encode_images([decode_image(make_png(n)) for n in range(len(ITEM_IDS))]).numpy()
    histories = {f"u{user}": ITEM_IDS[2 + user : 6 + user] for user in range(3)}
    data = build_data(make_interactions(histories), build_catalogue(ITEM_IDS, image_NF, dict.fromkeys(ITEM_IDS, "c")))
    save_check(path, build_tower(data, RANKER_CHECK), data, config=RANKER_CHECK)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    save_tables(folder)
    models = save_models(folder)
    save_tiny_ranker(folder / "ranker.safetensors", encoder=load_clip(str(models["clip"])))
    save_tiny_check(folder / "check.safetensors", encoder=load_visual(str(models["check_visual"])))
    shown = {"title": "<i>tiny</i>", "num_users": 2, "num_concepts": 2, "num_rejected": 5}
    params = {
        "seed": 0,
        "dataset": {"name": "toy"},
        "runtime": asdict(RUNTIME),
        "models": models,
        "evaluation": asdict(replace(EVALUATION, image_size=32, num_resamples=100)),
        "report": shown,
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def run_evaluation(folder: Path, out: Path, *, check: str | None = "check.safetensors") -> None:
    options = [f"--{name}={folder / name}.parquet" for name in ("items", "cases", "labels", "captions", "embeddings", "retrieved")]
    options += [f"--generated={folder / method}.parquet" for method in METHODS]
    options += [f"--ranker={folder / 'ranker.safetensors'}", f"--params={folder / 'params.yaml'}", f"--out={out}"]
    options += [f"--ranker-check={folder / check}"] if check else []
    CliRunner().invoke(evaluation.app, options, catch_exceptions=False)


def run_report(folder: Path, scored: Path, out: Path) -> None:
    options = [f"--{name}={folder / name}.parquet" for name in ("items", "cases", "labels", "preferences", "retrieved")]
    options += [f"--generated={folder / method}.parquet" for method in METHODS]
    options += [f"--scores={scored / 'scores.parquet'}", f"--summary={scored / 'summary.json'}", f"--rejected={scored / 'rejected.parquet'}"]
    CliRunner().invoke(report.app, [*options, f"--params={folder / 'params.yaml'}", f"--out={out}"], catch_exceptions=False)


def test_evaluation_writes_scores_summary_metrics_and_plots_and_the_report_reads_them(project: Path, tmp_path: Path) -> None:
    run_evaluation(project, tmp_path / "a")
    scores = read_table(tmp_path / "a" / "scores.parquet", SCORES)
    assert scores.num_rows == 6
    original = next(row for row in scores.to_pylist() if row["method"] == "original")
    assert original["effnet_sem"] == pytest.approx(0, abs=1e-4)
    assert original["num_history"] == 4
    for suffix in ("", "_check"):  # an item's own image in its place changes nothing
        for row in (row for row in scores.to_pylist() if row["method"] == "original"):
            assert row[f"delta_r{suffix}"] == 0
            assert row[f"rank_original{suffix}"] == row[f"rank_generated{suffix}"]
    summary = read_json(tmp_path / "a" / "summary.json")
    assert summary["profile"] == "tiny"
    assert summary["methods"]["ragar"]["delta_r_check"]["n"] == 2
    assert set(summary["methods"]) == set(METHODS)
    assert summary["methods"]["truth"]["ssim_truth"]["value"] == pytest.approx(100)
    assert read_json(tmp_path / "a" / "metrics.json")["ragar"]["cis"] == pytest.approx(summary["methods"]["ragar"]["cis"]["value"], abs=1e-6)
    assert (tmp_path / "a" / "methods.csv").read_text().startswith("method,metric,value,low,high,n\n")
    assert read_table(tmp_path / "a" / "rejected.parquet", REJECTED).num_rows == 0

    run_report(project, tmp_path / "a", tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text()
    assert "&lt;i&gt;tiny&lt;/i&gt;" in page
    assert "tiny profile" in page
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]


def test_evaluation_without_a_second_ranker_leaves_its_columns_out(project: Path, tmp_path: Path) -> None:
    run_evaluation(project, tmp_path / "a", check=None)
    assert "delta_r_check" not in read_table(tmp_path / "a" / "scores.parquet", SCORES).column_names
    assert "delta_r_check" not in read_json(tmp_path / "a" / "summary.json")["methods"]["ragar"]


def test_the_reward_itself_is_no_second_ranker(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not the evaluation ranker that the stage ranker_check writes"):
        run_evaluation(project, tmp_path / "a", check="ranker.safetensors")


def test_evaluation_and_report_run_again_give_the_same_bytes(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / f"work-{name}"))  # a ledger of its own: nothing is reused
        run_evaluation(project, tmp_path / name)
        run_report(project, tmp_path / name, tmp_path / f"page-{name}")
    for name in ("scores.parquet", "summary.json", "metrics.json", "methods.csv", "rejected.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert (tmp_path / "page-a" / "index.html").read_bytes() == (tmp_path / "page-b" / "index.html").read_bytes()
