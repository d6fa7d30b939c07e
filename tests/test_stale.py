"""An edit of the code that decides a row gives new rows, a comment runs nothing. Run: python -m pytest tests/test_stale.py

Each edit changes what one function returns. DVC then runs the stage in a finished small run, whose ledgers, checkpoints and cache hold what
the code before the edit made: none of it may come back, and taking the edit back must bring the old bytes back.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pipeline import code
from tests.small_project import REPO, SmallProject, list_ran


@dataclass(frozen=True)
class Edit:
    """A text of a file that decides rows of a stage, what takes its place, and an out of that stage that must change."""

    stage: str
    file: str
    old: str
    new: str
    out: str

    def __str__(self) -> str:
        return f"{self.stage} {self.file.removeprefix('pipeline/')}"


EDITS = (
    Edit("captioning", "pipeline/models/captioner.py", "    return caption\n", '    return f"{caption} indeed"\n', "captions.parquet"),
    Edit("embedding", "pipeline/embedding.py", "encode_texts([text for", "encode_texts([text[::-1] for", "embeddings.parquet"),
    Edit("embedding", "pipeline/models/backbone.py", "return F.normalize(torch.cat(", "return -F.normalize(torch.cat(", "embeddings.parquet"),
    Edit("keywords", "pipeline/keywords/parse.py", "list(keywords)[:max_keywords]", "list(keywords)[:1]", "keywords.parquet"),
    Edit(
        "keywords",
        "pipeline/models/decoding.py",
        "self.done = self._rules.stop",
        "self.done = len(self.tokens) > 2 or self._rules.stop",
        "keywords.parquet",
    ),
    Edit("look", "pipeline/looks/fit.py", "torch.where(dropped_B[", "torch.where(~dropped_B[", "model.safetensors"),
    Edit("ranker", "pipeline/ranker/losses.py", "-functional.logsigmoid(", "-2 * functional.logsigmoid(", "ranker.safetensors"),
    Edit("ranker_check", "pipeline/ranker_check/tower.py", "normalize(image_BF -", "normalize(image_BF.abs() -", "ranker.safetensors"),
    Edit("mapper", "pipeline/conditioning/mapper.py", ".norm(dim=-1).mean()\n", ".norm(dim=-1).square().mean()\n", "mapper.safetensors"),
    Edit("mapper", "pipeline/conditioning/states.py", "return tensor.cpu()", "return (tensor / 2).cpu()", "mapper.safetensors"),
    Edit("mapper", "pipeline/conditioning/attention_pretraining.py", "mean_BK + 1e-6", "mean_BK + 1e-2", "mapper.safetensors"),
    Edit("reflection", "pipeline/reflection/losses.py", "return -(log_BR", "return (log_BR", "calibrator.safetensors"),
    Edit("reflection", "pipeline/reflection/inputs.py", "score_B1[:, 0].tolist()", "(score_B1[:, 0] + 1.0).tolist()", "calibrator.safetensors"),
    Edit("sd", "pipeline/models/lora.py", "generator=generator) / rank)", "generator=generator) / (2 * rank))", "lora.safetensors"),
    Edit(
        "glide",
        "pipeline/baselines/glide/fit.py",
        "- noise_B3hw.to(glide.device)).square()",
        "- noise_B3hw.to(glide.device)).abs()",
        "base.safetensors",
    ),
    Edit("ti@ti", "pipeline/models/denoising.py", ".square().mean(dim=(1, 2, 3))", ".abs().mean(dim=(1, 2, 3))", "vectors.parquet"),
    Edit("pmg@pmg", "pipeline/keywords/parse.py", "list(keywords)[:max_keywords]", "list(keywords)[:1]", "preferences.parquet"),
    Edit("pmg@pmg", "pipeline/baselines/pmg/prompts.py", "[*target, *[*preference]", "[*target, *[*target]", "soft.safetensors"),
    Edit("generation@original", "pipeline/generation/copying.py", "np.asarray(decode", "255 - np.asarray(decode", "generated.parquet"),
    Edit("generation@sd", "pipeline/models/diffusion.py", "factor * (after - before)", "factor * (before - after)", "generated.parquet"),
    Edit("generation@pmg", "pipeline/baselines/pmg/selection.py", "return alpha * logs", "return -alpha * logs", "generated.parquet"),
    Edit("generation@ragar", "pipeline/conditioning/calibrator.py", "@ global_BKD\n", "@ global_BKD / 2\n", "generated.parquet"),
    Edit(
        "evaluation",
        "pipeline/models/perceptual.py",
        "normalize_channels(layer.float())",
        "normalize_channels(layer.float().abs())",
        "scores.parquet",
    ),
    Edit("evaluation", "pipeline/metrics/image.py", "return PERCENT * F.cosine", "return 2 * PERCENT * F.cosine", "scores.parquet"),
)
RUN = (  # an edit of each stage; in a group no stage reads what another one writes or runs code that is edited for it
    ("captioning",),
    ("look",),
    ("embedding", "keywords", "generation@original", "generation@pmg", "generation@ragar"),
    ("ranker", "mapper", "ti@ti"),
    ("ranker_check", "generation@sd"),
    ("reflection", "sd", "glide", "pmg@pmg", "evaluation"),
)


@pytest.fixture(scope="module")
def project(small_run: SmallProject, tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    return small_run.copy(tmp_path_factory.mktemp("stale") / "ragar")


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_the_code_that_decides_a_row_is_part_of_what_its_stage_depends_on(edit: Edit) -> None:
    text = (REPO / edit.file).read_text(encoding="utf-8")
    assert text.count(edit.old) == 1, f"{edit.file} has changed: choose another text"
    assert REPO / edit.file in find_code(edit.stage)


@pytest.mark.slow
def test_nothing_that_decides_a_row_runs_outside_of_its_key(small_run: SmallProject) -> None:
    traced = [json.loads(line) for line in (small_run.root / ".key-trace.jsonl").read_text(encoding="utf-8").splitlines()]
    missing = {line["name"]: set(line["missing"]) for line in traced if line["missing"]}
    assert not missing
    assert min(line["ran"] for line in traced) >= 1
    names = {line["name"] for line in traced}
    assert {"captioning", "embedding", "ranker_check_features", "keywords", "conditioning", "latents", "evaluation", "reflection-global"} <= names
    assert {"ranker", "ranker_check", "mapper", "reflection", "sd", "glide", "look", "ti", "pmg", "pmg_keywords", "pmg_soft"} <= names
    assert {"generation@text", "generation@copy", "generation@ragar", "generation@pmg", "generation@ti", "generation@ip_adapter"} <= names


def choose_edit(stage: str) -> Edit:
    return next(edit for edit in EDITS if edit.stage == stage)


def find_code(stage: str) -> set[Path]:
    name, _, method = stage.partition("@")
    return code.compute_closure({REPO / "stages" / f"{name}.py", *([REPO / code.VARIANTS[name] / f"{method}.py"] if name in code.VARIANTS else [])})


def test_every_stage_is_edited_once_and_no_edit_of_a_group_reaches_another_stage_of_it() -> None:
    assert sorted(stage for group in RUN for stage in group) == sorted({edit.stage for edit in EDITS})
    pipeline = yaml.safe_load((REPO / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for group in RUN:
        for stage, other in itertools.permutations(group, 2):
            assert REPO / choose_edit(stage).file not in find_code(other), (stage, other)
            name = other.partition("@")[0]
            reads = yaml.safe_dump(pipeline[name].get("do", pipeline[name])["deps"]).replace("- ", "")
            assert f"data/{stage.replace('@', '/')}/" not in reads, (stage, other)
            assert not (stage.startswith("generation@") and "data/generation" in reads), (stage, other)


@pytest.mark.slow
@pytest.mark.parametrize("group", RUN, ids=",".join)
def test_an_edit_gives_new_rows_and_taking_it_back_gives_the_old_ones(group: tuple[str, ...], project: SmallProject) -> None:
    edits = [choose_edit(stage) for stage in group]
    outs = [project.root / "data" / edit.stage.replace("@", "/") / edit.out for edit in edits]
    before = [hashlib.sha256(out.read_bytes()).hexdigest() for out in outs]
    texts = {edit.file: (project.root / edit.file).read_text(encoding="utf-8") for edit in edits}
    for edit in edits:
        (project.root / edit.file).write_text(texts[edit.file].replace(edit.old, edit.new), encoding="utf-8")
    assert set(group) <= set(list_ran(project.repro("--single-item", "code", *group)))
    assert [stage for stage, out, old in zip(group, outs, before, strict=True) if hashlib.sha256(out.read_bytes()).hexdigest() == old] == []
    for file, text in texts.items():
        (project.root / file).write_text(text, encoding="utf-8")
    assert not set(group) & set(list_ran(project.repro("--single-item", "code", *group)))  # from DVC's run cache
    assert [hashlib.sha256(out.read_bytes()).hexdigest() for out in outs] == before


@pytest.mark.slow
def test_comments_docstrings_and_what_changes_no_result_run_nothing(project: SmallProject) -> None:
    for file in {edit.file for edit in EDITS}:
        path = project.root / file
        text = path.read_text(encoding="utf-8").replace('"""', '"""Another docstring. ', 1)
        path.write_text(f"# a comment\n{text}\n\n# another\n", encoding="utf-8")
    runtime = project.root / "pipeline" / "runtime.py"
    runtime.write_text(runtime.read_text(encoding="utf-8").replace("LOG_SECONDS = 10.0", "LOG_SECONDS = 11.0"), encoding="utf-8")
    params = project.root / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("num_threads: 1", "num_threads: 2"), encoding="utf-8")
    assert list_ran(project.repro()) == ["code"]
    assert list_ran(project.repro()) == []
