"""Captioning, embedding and retrieval from the command line, with tiny models. Run: `python -m pytest tests/stages/test_item_stages.py`."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.artifacts import build_table, read_provenance, read_table, write_table
from pipeline.json_files import read_json
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, REJECTED, RETRIEVED
from stages import captioning, embedding, retrieval
from tests.broken_items import REJECTED as BROKEN
from tests.broken_items import build_items
from tests.configs import CAPTIONING, EMBEDDING, RETRIEVAL, RUNTIME
from tests.tiny_encoders import CLIP_DIM, save_tiny_blip2, save_tiny_clip, save_tiny_hf_clip, save_tiny_vit


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "dtype": "float16",
        "captioner": str(save_tiny_blip2(folder / "blip2")),
        "clip": str(save_tiny_hf_clip(folder / "hf_clip")),
        "visual": str(save_tiny_vit(folder / "vit")),
        "native": str(save_tiny_clip(folder / "clip")),
    }


class Project:
    """A folder with params and the tables that the stages start from."""

    def __init__(self, root: Path, models: dict[str, str]) -> None:
        self.root = root
        self.params: dict[str, Any] = {
            "seed": 3,
            "models": dict(models),
            "runtime": asdict(RUNTIME),
            "captioning": asdict(replace(CAPTIONING, max_rejected_fraction=0.9)),
            "embedding": asdict(replace(EMBEDDING, max_rejected_fraction=0.9)),
            "retrieval": asdict(replace(RETRIEVAL, max_rejected_fraction=0.5)),
        }
        items = build_items(8)
        write_table(root / "items.parquet", items, ITEMS, provenance={})
        common = {"split": "test", "truth_id": None}
        cases = [
            {"case_id": "c0", "user_id": "u0", "history": items["item_id"].to_pylist(), "reference_id": "good-0003", **common},
            {"case_id": "c1", "user_id": "u1", "history": ["zero", "bomb"], "reference_id": "good-0001", **common},
            {"case_id": "c2", "user_id": "u2", "history": ["good-0005"], "reference_id": "good-0001", **common},
        ]
        write_table(root / "cases.parquet", build_table(cases, CASES), CASES, provenance={})

    def run(self, stage: Any, **paths: str) -> str:
        """Run one stage's command and return what it printed."""
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params), encoding="utf-8")
        arguments = ["--params", str(self.root / "params.yaml")]
        for name, path in paths.items():
            arguments += [f"--{name}", str(self.root / path)]
        result = CliRunner().invoke(stage.app, arguments)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    def run_all(self) -> list[str]:
        """Run the three stages in order."""
        return [
            self.run(captioning, items="items.parquet", out="captioning"),
            self.run(embedding, items="items.parquet", captions="captioning/captions.parquet", out="embedding"),
            self.run(retrieval, cases="cases.parquet", embeddings="embedding/embeddings.parquet", items="items.parquet", out="retrieval"),
        ]

    def hash_outs(self) -> dict[str, str]:
        """Return the sha256 of every out."""
        paths = [path for name in ("captioning", "embedding", "retrieval") for path in sorted((self.root / name).iterdir())]
        return {path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    return Project(tmp_path, models)


def test_the_chain_gives_every_row_one_outcome(project: Project) -> None:
    outputs = project.run_all()
    item_ids = set(read_table(project.root / "items.parquet", ITEMS)["item_id"].to_pylist())
    for stage, table, kind in (("captioning", "captions", CAPTIONS), ("embedding", "embeddings", EMBEDDINGS)):
        done = read_table(project.root / stage / f"{table}.parquet", kind)["item_id"].to_pylist()
        refused = read_table(project.root / stage / "rejected.parquet", REJECTED)["row_key"].to_pylist()
        assert set(done) | set(refused) == item_ids
        assert not set(done) & set(refused)
        assert set(refused) >= BROKEN
    retrieved = read_table(project.root / "retrieval/retrieved.parquet", RETRIEVED).to_pylist()
    assert [(row["case_id"], row["rank"]) for row in retrieved] == [("c0", 0), ("c0", 1), ("c2", 0)]
    rejected = read_table(project.root / "retrieval/rejected.parquet", REJECTED).to_pylist()
    assert rejected == [{"stage": "retrieval", "row_key": "c1", "reason": "None of the 2 history items has an embedding."}]
    assert [output.splitlines()[-1].split(",")[0] for output in outputs] == [
        "captioning: 17 rows in",
        "embedding: 17 rows in",
        "retrieval: 3 rows in",
    ]
    assert "1 rejected" in outputs[2]


def test_vectors_have_the_width_of_their_models_and_tables_say_who_made_them(project: Project) -> None:
    project.run_all()
    schema = read_table(project.root / "embedding/embeddings.parquet", EMBEDDINGS).schema
    assert [schema.field(name).type.list_size for name in ("semantic", "visual", "clip_image")] == [CLIP_DIM, 32, CLIP_DIM]
    facts = read_provenance(project.root / "embedding/embeddings.parquet")
    assert facts["stage"] == "embedding"
    assert [revision.rpartition("-")[0] for revision in facts["revisions"]] == ["hf_clip", "vit"]
    assert read_provenance(project.root / "captioning/captions.parquet")["revision"].startswith("blip2-")
    metrics = read_json(project.root / "retrieval/metrics.json")
    assert (metrics["k"], metrics["cases"], metrics["cases_retrieved"], metrics["similarity"]["n"]) == (2, 3, 2, 2)


def test_a_native_clip_in_both_roles_takes_the_same_path(project: Project) -> None:
    project.params["models"].update(clip=project.params["models"]["native"], visual=project.params["models"]["native"])
    project.run_all()
    table = read_table(project.root / "embedding/embeddings.parquet", EMBEDDINGS)
    assert table["visual"].equals(table["clip_image"])


def test_a_run_again_and_a_run_from_scratch_give_the_same_bytes(project: Project) -> None:
    project.run_all()
    hashes = project.hash_outs()
    outputs = project.run_all()
    assert project.hash_outs() == hashes
    assert all("0 computed, 17 reused" in output for output in outputs[:2])
    shutil.rmtree(project.root / ".work")
    project.run_all()
    assert project.hash_outs() == hashes


@pytest.mark.parametrize("stage", ["captioning", "embedding"])
def test_a_run_that_lost_its_last_parts_goes_on_to_the_same_bytes(project: Project, stage: str) -> None:
    project.run_all()
    hashes = project.hash_outs()
    parts = sorted((project.root / ".work" / stage).glob("*/part-*.parquet"))
    assert len(parts) == 5
    parts[-1].unlink()
    parts[-2].unlink()
    outputs = project.run_all()
    assert project.hash_outs() == hashes
    assert "5 computed, 12 reused" in outputs[0 if stage == "captioning" else 1]


def test_k_zero_leaves_an_empty_table_and_no_rejections_but_hopeless_cases(project: Project) -> None:
    project.run_all()
    project.params["retrieval"]["k"] = 0
    project.run_all()
    assert len(read_table(project.root / "retrieval/retrieved.parquet", RETRIEVED)) == 0
    assert read_table(project.root / "retrieval/rejected.parquet", REJECTED)["row_key"].to_pylist() == ["c1"]
    metrics = read_json(project.root / "retrieval/metrics.json")
    assert (metrics["cases_retrieved"], metrics["rows"]) == (0, 0)


def test_too_many_rejected_rows_stop_the_stage_with_the_first_reason(project: Project) -> None:
    project.params["captioning"]["max_rejected_fraction"] = 0.1
    with pytest.raises(ValueError, match=r"of 17 rows were rejected, more than the allowed fraction 0\.1; the first"):
        project.run(captioning, items="items.parquet", out="captioning")
    assert (project.root / "captioning/rejected.parquet").is_file()


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("models", "captioner", None, r"models\.captioner is None, but it must name a model"),
        ("models", "dtype", "half", "float32, float16, bfloat16"),
        ("captioning", "num_beams", 0, "num_beams is 0, but it must be >= 1"),
        ("captioning", "beams", 1, "unknown key `beams`"),
    ],
)
def test_wrong_params_are_named_before_any_model_is_loaded(project: Project, section: str, key: str, value: Any, message: str) -> None:
    project.params[section][key] = value
    with pytest.raises(ValueError, match=message):
        project.run(captioning, items="items.parquet", out="captioning")
