"""Keywords, preference and mapper from the command line, with tiny models. Run: `python -m pytest tests/stages/test_text_stages.py`."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from pipeline.artifacts import build_table, read_provenance, read_table, write_table
from pipeline.conditioning.mapper import load_mapper
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import read_json
from pipeline.models.look import LookMap, LookShape, save_look_map
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, KEYWORDS, LOOKS, PREFERENCES, REJECTED, RETRIEVED
from stages import keywords, mapper, preference
from tests import configs
from tests.configs import MAPPER
from tests.tiny_models import LLM_DIM, NUM_TOKENS, TOKEN_DIM, save_tiny_qwen2, save_tiny_stable_diffusion

NAMES = ("dog", "cat", "car", "cow", "")
TABLES = ("cases", "items", "captions", "keywords", "embeddings")
PREFERENCE_TABLES = (*TABLES, "retrieved")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "dtype": "float32",
        "language_model": str(save_tiny_qwen2(folder / "qwen2")),
        "language_model_dtype": "float32",
        "diffusion": str(save_tiny_stable_diffusion(folder / "sd15")),
    }


class Project:
    """A folder with params and the tables that the stages start from."""

    def __init__(self, root: Path, models: dict[str, str]) -> None:
        self.root = root
        self.params: dict[str, Any] = {
            "seed": 3,
            "models": models,
            "runtime": asdict(configs.RUNTIME),
            "keywords": asdict(replace(configs.KEYWORDS, prompt_style="chat", num_keywords=3, max_new_tokens=6)),
            "preference": asdict(replace(configs.PREFERENCE, num_keywords=4, min_keywords=2, global_from="retrieved")),
            "retrieval": asdict(replace(configs.RETRIEVAL, center=True, max_rejected_fraction=1.0)),
            "mapper": asdict(MAPPER),
            "calibrator": {"attention": "learned", "fusion": "concat", "init_scale": 10.0},
        }
        item_ids = [f"i{index}" for index in range(len(NAMES))]
        items = [
            {"item_id": item_id, "image": {"bytes": b"", "path": None}, "text": name, "category": "", "image_sha256": ""}
            for item_id, name in zip(item_ids, NAMES, strict=True)
        ]
        captions = [{"item_id": item_id, "caption": f"a red {name or 'thing'}"} for item_id, name in zip(item_ids, NAMES, strict=True)]
        case = {"user_id": "u", "split": "test", "history": item_ids[:3], "truth_id": None}
        cases = [{**case, "case_id": "c0", "reference_id": "i3"}, {**case, "case_id": "c1", "reference_id": "i4"}]
        cases += [{**case, "case_id": "c2", "user_id": "v", "split": "train", "history": item_ids[:4], "reference_id": "i4"}]
        named = [{"item_id": item_id, "keywords": ["neon", name]} for item_id, name in zip(item_ids, NAMES, strict=True) if name]
        vectors = [[float(index == place) for index in range(len(NAMES))] for place in range(len(NAMES))]
        embedded = [
            {"item_id": item_id, "semantic": vector, "visual": vector, "clip_image": vector}
            for item_id, vector in zip(item_ids, vectors, strict=True)
        ]
        retrieved = [
            {"case_id": case_id, "rank": rank, "item_id": f"i{rank}", "similarity": 0.5, "weight": 0.5} for case_id in ("c0", "c1") for rank in (0, 1)
        ]
        for table, rows in ((ITEMS, items), (CAPTIONS, captions), (CASES, cases), (RETRIEVED, retrieved), (KEYWORDS, named), (EMBEDDINGS, embedded)):
            write_table(root / f"{table.name}.parquet", build_table(rows, table), table, provenance={})

    def run(self, stage: Any, out: str, *names: str) -> str:
        """Run one stage's command on the tables `names` and return what it printed."""
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params), encoding="utf-8")
        arguments = ["--params", str(self.root / "params.yaml"), "--out", str(self.root / out)]
        for name in names:
            arguments += [f"--{name}", str(self.root / f"{name}.parquet")]
        result = CliRunner().invoke(stage.app, arguments)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    return Project(tmp_path, models)


def test_every_item_gets_keywords_or_a_reason_and_a_second_run_reuses_all(project: Project) -> None:
    assert "5 rows in, 5 computed, 0 reused" in project.run(keywords, "keywords", "items", "captions")
    named = read_table(project.root / "keywords/keywords.parquet", KEYWORDS)["item_id"].to_pylist()
    refused = {row["row_key"]: row["reason"] for row in read_table(project.root / "keywords/rejected.parquet", REJECTED).to_pylist()}
    assert sorted([*named, *refused]) == ["i0", "i1", "i2", "i3", "i4"]
    assert all("holds no keyword" in reason for reason in refused.values())  # none for want of a text: the caption stands in
    assert read_provenance(project.root / "keywords/keywords.parquet")["language_model"].startswith("qwen2-")
    before = (project.root / "keywords/keywords.parquet").read_bytes()
    assert "0 computed, 5 reused" in project.run(keywords, "keywords", "items", "captions")
    assert (project.root / "keywords/keywords.parquet").read_bytes() == before


def test_preferences_hold_both_prompts_and_a_caption_stands_in_for_a_text_that_is_empty(project: Project) -> None:
    printed = project.run(preference, "preference", *PREFERENCE_TABLES)
    assert "3 rows in, 3 computed, 0 reused, 1 rejected" in printed
    row, textless = read_table(project.root / "preference/preferences.parquet", PREFERENCES).to_pylist()
    assert (textless["case_id"], textless["global_prompt"]) == ("c1", "a, neon, dog")  # the encoder reads ten letters and commas
    assert (row["case_id"], row["keywords"], row["counts"]) == ("c0", ["neon", "dog"], [2.0, 1.0])
    assert row["global_prompt"] == "cow, neon, dog"
    assert row["retrieved_prompt"] == "cow, neon, dog"
    assert row["keyword_prompt"] == "cow, neon, car"  # of the whole history, from the newest item on
    rejected = read_table(project.root / "preference/rejected.parquet", REJECTED).to_pylist()
    assert rejected == [{"stage": "preference", "row_key": "c2", "reason": "The case has no retrieved items."}]


def test_the_mapper_leaves_one_out_of_the_training_users_histories(project: Project) -> None:
    project.params["mapper"] |= {"prompt": "leave_one_out", "max_captions": 4}
    project.run(mapper, "mapper", *TABLES)
    assert read_json(project.root / "mapper/metrics.json")["num_captions"] == 2  # four items of the training user, two held out


def test_one_caption_for_everything_is_too_few_for_the_mapper_and_says_so(project: Project) -> None:
    captions = [{"item_id": f"i{index}", "caption": "a photo"} for index in range(len(NAMES))]
    write_table(project.root / "captions.parquet", build_table(captions, CAPTIONS), CAPTIONS, provenance={})
    project.params["mapper"] |= {"prompt": "leave_one_out"}
    with pytest.raises(ValueError, match="at least 2 different captions of items that training users have looked at, but there is 1: the captioner"):
        project.run(mapper, "mapper", *TABLES)


def test_two_captions_for_everything_train_the_mapper_and_its_attention_to_finite_numbers(project: Project) -> None:
    captions = [{"item_id": f"i{index}", "caption": "a neon photo" if index % 2 else "a photo"} for index in range(len(NAMES))]
    write_table(project.root / "captions.parquet", build_table(captions, CAPTIONS), CAPTIONS, provenance={})
    project.params["mapper"] |= {"prompt": "leave_one_out", "attention_steps": 2}
    project.run(mapper, "mapper", *TABLES)
    metrics = read_json(project.root / "mapper/metrics.json")
    assert (metrics["num_captions"], metrics["num_held_out"]) == (1, 1)
    assert metrics["held_out_match"] == 1.0
    assert 0.0 <= metrics["attention_mass"] <= 1.0


def test_the_preference_stage_counts_the_prompts_that_the_text_encoder_would_not_read_whole(project: Project) -> None:
    items = read_table(project.root / "items.parquet", ITEMS).to_pylist()
    items[3]["text"] = "ab cd ef gh ij"  # the encoder reads ten letters and commas; the keywords take eight of them
    write_table(project.root / "items.parquet", build_table(items, ITEMS), ITEMS, provenance={})
    project.params["preference"] |= {"num_keywords": 1, "min_keywords": 1}
    project.run(preference, "preference", *PREFERENCE_TABLES)
    row = read_table(project.root / "preference/preferences.parquet", PREFERENCES).to_pylist()[0]
    assert (row["keyword_prompt"], row["global_prompt"]) == ("ab cd, neon", "ab cd, neon")
    assert "shows: ab cd, a red cow. Describe" in row["detailed_prompt"]
    counted = {"keyword_prompt": 2, "retrieved_prompt": 2, "global_prompt": 2}  # one of them for the caption that is the title of an item without one
    assert read_json(project.root / "preference/metrics.json") == {"num_cases": 3, "num_cut": counted}


def test_of_few_captions_at_most_half_are_held_out(project: Project) -> None:
    project.params["mapper"] |= {"prompt": "leave_one_out", "max_captions": 200, "held_out_captions": 64}
    project.run(mapper, "mapper", *TABLES)
    assert read_json(project.root / "mapper/metrics.json")["num_captions"] == 2  # of four


def test_the_mapper_fits_its_models_and_a_second_run_gives_the_same_bytes(project: Project) -> None:
    project.params["mapper"] |= {"max_captions": 4}
    project.run(mapper, "mapper", *TABLES)
    files = ("mapper.safetensors", "metrics.json", "curves.csv")
    before = {name: hashlib.sha256((project.root / "mapper" / name).read_bytes()).hexdigest() for name in files}
    trained, vectors, facts = load_mapper(project.root / "mapper/mapper.safetensors")
    assert (trained.shape.input_dim, trained.shape.num_tokens, trained.shape.token_dim) == (LLM_DIM, NUM_TOKENS, TOKEN_DIM)
    assert vectors.shape == (MAPPER.num_img_tokens, LLM_DIM)
    assert facts["prompt_format"] == {"prompt_style": "few_shot", "max_text_tokens": MAPPER.max_text_tokens}
    metrics = read_json(project.root / "mapper/metrics.json")
    assert (metrics["num_steps"], metrics["num_captions"]) == (9, 2)  # the caption of i4 is of no interacted item
    for path in (project.root / ".work").rglob("checkpoint-*.safetensors"):
        path.unlink()
    project.run(mapper, "mapper", *TABLES)
    assert before == {name: hashlib.sha256((project.root / "mapper" / name).read_bytes()).hexdigest() for name in files}


def save_map(folder: Path, visual_dim: int) -> str:
    """Save an untrained look map of two tokens; return the reference that names it."""
    torch.manual_seed(0)
    shape = LookShape(visual_dim=visual_dim, text_dim=TOKEN_DIM, width=4, num_tokens=2, token_dim=TOKEN_DIM)
    save_look_map(folder / "look" / "model.safetensors", LookMap(shape))
    return str(folder / "look")


def test_the_preference_stage_writes_look_tokens_where_they_are_asked_for_and_words_do_not_change(project: Project) -> None:
    project.run(preference, "plain", *PREFERENCE_TABLES)
    assert read_table(project.root / "plain/looks.parquet", LOOKS).num_rows == 0
    project.params["models"] = {**project.params["models"], "look": save_map(project.root, len(NAMES))}
    project.params["preference"] |= {"visual_tokens": 2}
    project.run(preference, "looks", *PREFERENCE_TABLES)
    rows = read_table(project.root / "looks/looks.parquet", LOOKS).to_pylist()
    assert [row["case_id"] for row in rows] == ["c0", "c1", "c2"]
    assert (len(rows[0]["tokens"]), len(rows[0]["item_ids"]), sum(rows[0]["weights"])) == (2 * TOKEN_DIM, 3, pytest.approx(1))
    words = [read_table(project.root / name / "preferences.parquet", PREFERENCES) for name in ("plain", "looks")]
    assert words[0].equals(words[1])
    assert read_provenance(project.root / "looks/looks.parquet")["look"].startswith("look-")
    assert read_json(project.root / "looks/metrics.json")["num_looks"] == 3


def test_without_look_tokens_the_preferences_are_named_as_before_there_were_any(project: Project) -> None:
    project.run(preference, "preference", *PREFERENCE_TABLES)
    words = {name: value for name, value in project.params["preference"].items() if name != "visual_tokens" and not name.startswith("look_")}
    facts = read_provenance(project.root / "preference/preferences.parquet")
    assert facts["params"] == compute_fingerprint(words)
    assert set(read_json(project.root / "preference/metrics.json")) == {"num_cases", "num_cut"}
