"""PMG, the tuned SD and what all baselines share, from the command line with tiny models. Run: python -m pytest tests/stages/test_baselines.py"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipeline.artifacts import read_table, read_tensors
from pipeline.baselines.pmg import keywords
from pipeline.cost import find_cost
from pipeline.generation.build import list_methods
from pipeline.generation.config import OWN_MODELS
from pipeline.json_files import read_json
from pipeline.models.diffusion import Diffusion
from pipeline.report.figures import BOUNDS
from pipeline.schemas import GENERATED, PMG_PREFERENCES, REJECTED
from stages import pmg, sd, ti
from tests.configs import PMG_RETRIEVED
from tests.small_project import REPO
from tests.stages.baseline_project import NO_ITEMS, TEST_CASES, invert, make_baseline_project, narrow, prepare_pmg, write_narrowed
from tests.stages.drawing_project import Project, write_looks


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    return make_baseline_project(tmp_path, models)


@pytest.fixture
def _talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny language model, whose words are random bytes, name keywords."""
    monkeypatch.setattr(keywords, "generate", lambda _, questions, config: ["red, loud" for _ in questions])


@pytest.mark.parametrize("stage", [ti, pmg])
def test_a_stage_that_is_given_the_retrieved_items_has_nothing_to_do_unless_its_own_method_is_asked_for(project: Project, stage: Any) -> None:
    name = stage.STAGE
    project.params["comparison"] |= {name: True, f"{name}_retrieved": False}
    run = invert if stage is ti else prepare_pmg
    assert f"{name}_retrieved: 0 rows in" in run(project, retrieved="retrieved.parquet", out="empty")
    project.params["comparison"] |= {name: False, f"{name}_retrieved": True}
    assert f"{name}: 0 rows in" in run(project, out="empty")


def tune(project: Project) -> str:
    return project.run(sd, cases="cases.parquet", items="items.parquet", captions="captions.parquet", out="tuned")


def test_sd_is_not_tuned_by_default_and_draws_as_without_the_stage(project: Project) -> None:
    project.generate("sd")
    plain = read_table(project.root / "sd" / "generated.parquet", GENERATED)
    assert "sd: 0 rows in" in tune(project)
    assert read_tensors(project.root / "tuned" / "lora.safetensors")[0] == {}
    assert "0 computed" in project.generate("sd", lora="tuned/lora.safetensors")
    assert read_table(project.root / "sd" / "generated.parquet", GENERATED).equals(plain)


def test_sd_is_tuned_to_the_same_bytes_again_and_draws_with_its_adapters(project: Project) -> None:
    project.generate("sd")
    plain = read_table(project.root / "sd" / "generated.parquet", GENERATED)["image"].to_pylist()
    project.params["sd"] |= {"lora_rank": 2, "learning_rate": 0.1}
    assert "3 rows in" in tune(project)
    metrics = read_json(project.root / "tuned" / "metrics.json")
    assert metrics["validation_loss"] < metrics["validation_loss_before"]
    first = project.hash_outs("tuned")
    shutil.rmtree(project.root / ".work")
    tune(project)
    assert project.hash_outs("tuned") == first
    project.generate("sd", lora="tuned/lora.safetensors")
    tuned = read_table(project.root / "sd" / "generated.parquet", GENERATED)["image"].to_pylist()
    assert all(before["bytes"] != after["bytes"] for before, after in zip(plain, tuned, strict=True))


@pytest.mark.usefixtures("_talkative")
def test_pmg_writes_keywords_and_soft_embeddings_of_every_drawn_case(project: Project) -> None:
    assert "4 rows in" in prepare_pmg(project)
    table = read_table(project.root / "pmg" / "preferences.parquet", PMG_PREFERENCES)
    rejected = read_table(project.root / "pmg" / "rejected.parquet", REJECTED)["row_key"].to_pylist()
    assert sorted(table["case_id"].to_pylist() + rejected) == TEST_CASES
    assert [words[0] for words in table["target_keywords"].to_pylist()] == [f"thing i{case_id[1:]}" for case_id in table["case_id"].to_pylist()]
    metrics = read_json(project.root / "pmg" / "metrics.json")
    assert (metrics["num_steps"], metrics["train_cases"], metrics["validation_cases"]) == (4, 3, 2)
    assert metrics["validation_loss"] != metrics["validation_loss_before"]
    assert len((project.root / "pmg" / "curves.csv").read_text().splitlines()) == 6  # header, start, four steps
    assert find_cost(project.root / "pmg" / "soft.safetensors")["seconds"] > 0
    tensors, facts = read_tensors(project.root / "pmg" / "soft.safetensors")
    assert set(tensors) == {"prefix", "vectors", "linear.weight", "linear.bias"}
    assert {"language_model", "diffusion", "params", "seed"} == set(facts)


@pytest.mark.usefixtures("_talkative")
def test_pmg_gives_the_same_bytes_again_with_and_without_its_ledger(project: Project) -> None:
    prepare_pmg(project)
    first = project.hash_outs("pmg")
    prepare_pmg(project)
    assert project.hash_outs("pmg") == first
    shutil.rmtree(project.root / ".work")
    prepare_pmg(project)
    assert project.hash_outs("pmg") == first


@pytest.mark.usefixtures("_talkative")
def test_pmg_retrieved_is_pmg_on_cases_whose_history_is_what_was_retrieved(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keywords, "generate", lambda _, questions, config: [", ".join(re.findall(r"thing (i\d+)", text)) for text in questions])
    narrow(project)
    prepare_pmg(project, retrieved="retrieved.parquet", out="chosen")
    table = read_table(project.root / "chosen" / "preferences.parquet", PMG_PREFERENCES)
    assert table["preference_keywords"].to_pylist() == [["i01", "i00"], ["i02", "i00"], ["i01", "i00"]]  # newest first
    rejected = read_table(project.root / "chosen" / "rejected.parquet", REJECTED).to_pylist()
    assert rejected == [{"stage": "pmg_retrieved", "row_key": NO_ITEMS, "reason": "The case has no retrieved item."}]
    metrics = read_json(project.root / "chosen" / "metrics.json")
    assert metrics["num_steps"] == PMG_RETRIEVED.num_steps
    write_narrowed(project)
    project.params["pmg"] |= asdict(PMG_RETRIEVED)
    prepare_pmg(project, cases="narrowed.parquet")
    assert read_table(project.root / "pmg" / "preferences.parquet", PMG_PREFERENCES).equals(table)
    assert read_json(project.root / "pmg" / "metrics.json") == metrics


@pytest.mark.usefixtures("_talkative")
@pytest.mark.parametrize("use_soft", [True, False])
def test_pmg_draws_every_case_and_its_choice_is_better_than_none(project: Project, use_soft: bool) -> None:
    project.params["pmg"]["use_soft"] = use_soft
    prepare_pmg(project)
    named = read_table(project.root / "pmg" / "preferences.parquet", PMG_PREFERENCES)["case_id"].to_pylist()
    shutil.move(project.root / "pmg" / "preferences.parquet", project.root / "pmg_preferences.parquet")
    project.generate("pmg", pmg_preferences="pmg_preferences.parquet")
    assert read_table(project.root / "pmg" / "generated.parquet", GENERATED)["case_id"].to_pylist() == named
    metrics = read_json(project.root / "pmg" / "metrics.json")
    assert metrics["num_images"] == len(named) > 0
    assert metrics["selection_score"] >= metrics["selection_score_first"]
    assert "0 computed" in project.generate("pmg", pmg_preferences="pmg_preferences.parquet")


@pytest.mark.usefixtures("_talkative")
def test_every_method_draws_the_same_cases_from_the_same_noise_with_the_same_sampler(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.reflect()
    project.params["generation"]["negative_prompt"] = "blurry"
    write_looks(project)
    needs = {
        "ragar": {"calibrator": "reflection/calibrator.safetensors", "looks": "looks.parquet"},
        "ip_adapter": {"embeddings": "embeddings.parquet"},
    }
    for given, options in (("", {}), ("_retrieved", {"retrieved": "retrieved.parquet"})):
        invert(project, out=f"trained-ti{given}", **options)
        prepare_pmg(project, out=f"trained-pmg{given}", **options)
        needs[f"ti{given}"] = {"vectors": f"trained-ti{given}/vectors.parquet"}
        needs[f"pmg{given}"] = {"pmg_preferences": f"trained-pmg{given}/preferences.parquet"}
    whole = Diffusion.draw
    calls: list[tuple[list[int], tuple[Any, ...]]] = []

    def draw(self: Diffusion, prompt_BTD: torch.Tensor, **options: Any) -> Any:
        seeds = [generator.initial_seed() for generator in options["generators"]]
        images = whole(self, prompt_BTD, **options)
        sampler = (options["steps"], options["guidance_scale"], options["negative_prompt"], type(self.pipeline.scheduler).__name__)
        calls.append((seeds, (*sampler, images.shape[1:])))
        return images

    monkeypatch.setattr(Diffusion, "draw", draw)
    samplers, noises, cases = set(), {}, set()
    for method in (name for name in list_methods() if name not in {*BOUNDS, *OWN_MODELS}):
        calls.clear()
        shutil.rmtree(project.root / ".work" / "generation", ignore_errors=True)  # methods with the same prompt draw it once between them
        project.generate(method, **needs.get(method, {}))
        samplers |= {sampler for _, sampler in calls}
        noises[method] = {seed for seeds, _ in calls for seed in seeds}
        cases.add(tuple(read_table(project.root / method / "generated.parquet", GENERATED)["case_id"].to_pylist()))
    assert cases == {tuple(TEST_CASES)}
    assert [sampler[:3] for sampler in samplers] == [(2, 3.0, "blurry")]  # of all methods, and so are scheduler and size
    assert len(noises["sd"]) == len(TEST_CASES)
    assert all(noises["sd"] == noises[method] for method in noises if not method.startswith("pmg"))
    assert noises["sd"] < noises["pmg"] == noises["pmg_retrieved"]  # the first noise of its candidates; it draws more, which is the method


def test_all_methods_are_drawn_from_one_table_of_cases_and_scored_in_one_run_by_one_clip() -> None:
    stages = yaml.safe_load((REPO / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert sorted(stages["generation"]["foreach"]) == list_methods()
    assert "--cases data/dataset/cases.parquet" in stages["generation"]["do"]["cmd"]
    assert "generation" in stages["generation"]["do"]["params"]
    for name in ("evaluation", "report"):
        assert "data/generation" in stages[name]["deps"]
        assert "--generated data/generation " in stages[name]["cmd"]
    assert "models.metric_clip" in stages["evaluation"]["params"]
