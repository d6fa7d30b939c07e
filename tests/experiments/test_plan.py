"""A run's name follows from its content. Run: python -m pytest tests/experiments/test_plan.py -q"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from experiments.plan import Plan, has_changes, leave_out_unused, list_copies, list_unique, plan_runs, read_inputs, select_stages
from experiments.runs import DEFAULT, Run

CONFIG = """\
seed: 0
dataset: {name: toy}
comparison: {ragar: true, ti: false}
retrieval: {k: 5}
evaluation: {split: test}
report: {title: t}
runtime: {device: auto}
"""
DVC_YAML = """
stages:
  dataset:
    cmd: python dataset.py --out data/dataset
    deps: [data/extra, code/dataset.py]
    params: [seed]
    outs: [data/dataset/items.parquet]
  retrieval:
    cmd: python retrieval.py data/dataset/items.parquet --out data/retrieval
    deps: [data/dataset/items.parquet, code/retrieval.py, weights]
    params: [retrieval]
    outs: [data/retrieval/retrieved.parquet]
  generation:
    foreach:
      ragar: {text: data/retrieval/retrieved.parquet, extra: code/ragar.py}
    do:
      cmd: python generation.py --out data/generation/${key}
      deps: ["${item.text}"]
      outs: ["data/generation/${key}/generated.parquet"]
  evaluation:
    cmd: python evaluation.py --out data/evaluation
    deps: [data/generation/ragar/generated.parquet]
    params: [evaluation]
    outs: [data/evaluation/scores.parquet]
  report:
    cmd: python report.py data/evaluation/scores.parquet --out data/report
    deps: [data/evaluation/scores.parquet, code/report.py]
    params: [report]
    outs: [data/report/index.html]
"""
OTHER = Run("k-7", ("retrieval.k=7",))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {"conf/config.yaml": CONFIG, "dvc.yaml": DVC_YAML, "data/extra/README.md": "yours", ".gitignore": "/data/extra/*.png\n"}
    files |= {f"code/{name}.py": name for name in ("dataset", "retrieval", "ragar", "report")} | {"weights/model.bin": "w"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "start")
    return tmp_path


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


CODE = {"dataset": {"toy": "d1", "other": "d2"}, "retrieval": "r", "generation": {"ragar": "g", "ti": "t"}, "evaluation": "e", "report": "p"}


def fingerprint(root: Path, run: Run = DEFAULT, **code: object) -> str:
    return plan_runs([run], read_inputs(root, CODE | code), root=root)[0].fingerprint


def test_a_plan_is_named_after_its_run_and_content(root: Path) -> None:
    plan = plan_runs([OTHER], read_inputs(root, CODE), root=root)[0]
    assert plan.experiment == f"ragar-k-7-{plan.fingerprint}"
    assert len(plan.fingerprint) == 10
    assert fingerprint(root, OTHER) == plan.fingerprint != fingerprint(root)


def test_runs_with_equal_parameters_are_one_work(root: Path) -> None:
    plans = plan_runs([DEFAULT, Run("k-5", ("retrieval.k=5",)), OTHER], read_inputs(root, CODE), root=root)
    assert plans[0].fingerprint == plans[1].fingerprint
    assert [plan.run.name for plan in list_unique(plans)] == ["default", "k-7"]


@pytest.mark.parametrize("path", ["code/dataset.py", "code/retrieval.py", "code/ragar.py", "weights/model.bin"])
def test_a_changed_input_changes_the_fingerprint_and_its_undoing_restores_it(root: Path, path: str) -> None:
    before, text = fingerprint(root), (root / path).read_text()
    (root / path).write_text("changed")
    assert fingerprint(root) != before
    (root / path).write_text(text)
    assert fingerprint(root) == before


WEIGHTS = {f"embedded/weights/{name}/model.safetensors": "w" for name in ("diffusion", "artist_diffusion", "look", "glide", "judge")}


@pytest.mark.parametrize(
    ("models", "read"),
    [
        ({"diffusion": "embedded/diffusion", "look": "embedded/look", "judge": {"toy": "embedded/judge"}}, {"diffusion", "judge"}),
        ({"diffusion": "embedded/artist_diffusion", "look": "embedded/look"}, {"artist_diffusion", "look"}),
        ({"diffusion": "embedded/artist_diffusion", "look": "looks/mine"}, {"artist_diffusion"}),
        ({"diffusion": "someone/stable-diffusion", "look": "embedded/look"}, {"look"}),
        ({"diffusion": "embedded/artist_diffusion", "look": None, "lavit": "embedded/lavit"}, {"artist_diffusion", "diffusion"}),  # LaVIT's U-Net
    ],
)
def test_only_the_shipped_weights_that_a_runs_models_read_count(models: dict[str, object], read: set[str]) -> None:
    left = leave_out_unused(WEIGHTS | {"data/raw": "r"}, {"seed": 0, "models": models})
    assert {Path(path).parts[2] for path in left if path != "data/raw"} == read
    assert "data/raw" in left


def test_what_comes_after_the_scores_and_the_runtime_do_not_count(root: Path) -> None:
    before = fingerprint(root)
    (root / "code/report.py").write_text("changed")
    (root / "README.md").write_text("new")
    (root / "conf/config.yaml").write_text(CONFIG.replace("title: t", "title: u").replace("auto", "cuda"))
    git(root, "add", "--all")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "next")
    assert fingerprint(root) == before


def test_the_code_of_the_needed_stages_counts(root: Path) -> None:
    before = fingerprint(root)
    assert fingerprint(root, retrieval="new") != before
    assert fingerprint(root, generation={"ragar": "new", "ti": "t"}) != before
    assert fingerprint(root, generation={"ragar": "g", "ti": "new"}) == before  # a method that is not drawn
    assert fingerprint(root, dataset={"toy": "new", "other": "d2"}) != before
    assert fingerprint(root, dataset={"toy": "d1", "other": "new"}) == before  # another data set's adapter
    assert fingerprint(root, report="new") == before  # comes after the scores


def test_a_changed_stage_definition_counts(root: Path) -> None:
    before = fingerprint(root)
    (root / "dvc.yaml").write_text(DVC_YAML.replace("python evaluation.py", "python evaluation.py --fast"))
    assert fingerprint(root) != before


@pytest.fixture
def with_raw(root: Path) -> Path:
    """Let the params name raw files: tracked ones by default, and a folder that git ignores for another data set."""
    (root / "dvc.yaml").write_text(DVC_YAML.replace("[data/extra,", '["${dataset.raw}", data/extra,'))
    (root / "conf" / "config.yaml").write_text(CONFIG.replace("{name: toy}", "{name: toy, raw: data/raw/toy.csv}"))
    for name in ("toy.csv", "mine/images/a.png", "mine/items.csv"):
        (root / "data" / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / "raw" / name).write_text(name)
    with (root / ".gitignore").open("a") as file:
        file.write("/data/raw/mine\n")
    git(root, "add", "--all")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "raw files")
    return root


MINE = Run("mine", ("dataset.raw=data/raw/mine",))


def plan(root: Path, run: Run) -> Plan:
    return plan_runs([run], read_inputs(root, CODE), root=root)[0]


def test_the_raw_files_that_a_runs_own_params_name_count_and_no_others(with_raw: Path) -> None:
    before, mine = plan(with_raw, DEFAULT), plan(with_raw, MINE)
    (with_raw / "data" / "raw" / "mine" / "images" / "a.png").write_text("changed")
    assert plan(with_raw, DEFAULT) == before
    changed = plan(with_raw, MINE)
    assert changed.fingerprint != mine.fingerprint
    (with_raw / "data" / "raw" / "toy.csv").write_text("changed")
    assert plan(with_raw, DEFAULT).fingerprint != before.fingerprint
    assert plan(with_raw, MINE) == changed


def test_a_temporary_run_is_given_the_raw_files_that_git_ignores(with_raw: Path) -> None:
    assert plan(with_raw, DEFAULT).copies == ()
    assert plan(with_raw, MINE).copies == ("data/raw/mine",)
    (with_raw / "data" / "extra" / "cat.png").write_text("cat")
    assert plan(with_raw, MINE).copies == ("data/extra/cat.png", "data/raw/mine")


def test_raw_files_elsewhere_count_and_stay_where_they_are(with_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("disk") / "my pics (1)"
    folder.mkdir()
    (folder / "items.csv").write_text("a")
    run = Run("there", (f"dataset.raw={folder}",))
    before = plan(with_raw, run)
    assert before.copies == ()
    (folder / "items.csv").write_text("b")
    assert plan(with_raw, run).fingerprint != before.fingerprint


def test_raw_files_that_a_temporary_run_would_not_find_are_a_sentence(with_raw: Path) -> None:
    with pytest.raises(ValueError, match=r"^dataset\.raw is data/raw/none, but there is no such file or folder\.$"):
        plan(with_raw, Run("none", ("dataset.raw=data/raw/none",)))
    (with_raw.parent / "pics").mkdir(exist_ok=True)
    words = rf"^dataset\.raw is \.\./pics, which leads out of the repository, .*: write {with_raw.parent}/pics\.$"
    with pytest.raises(ValueError, match=words):
        plan(with_raw, Run("out", ("dataset.raw=../pics",)))


def test_only_the_stages_below_the_target_are_needed() -> None:
    stages = {"a": {"outs": ["data/a/x"]}, "b": {"deps": ["data/a/x"]}, "c": {"deps": ["data/b/x", "data/raw/y"]}, "d": {"deps": ["data/c/x"]}}
    assert list(select_stages(stages, "c")) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="no stage 'e'"):
        select_stages(stages, "e")


def test_code_outside_of_git_is_refused_by_name(root: Path) -> None:
    (root / "weights/new.bin").write_text("w")
    with pytest.raises(ValueError, match=r"weights/new\.bin.*git add"):
        read_inputs(root)


def test_a_missing_dep_is_named_with_its_stage(root: Path) -> None:
    (root / "code/dataset.py").unlink()
    with pytest.raises(ValueError, match=r"code/dataset\.py, a dep of stage dataset, does not exist"):
        read_inputs(root)


def test_items_of_your_own_count_and_are_copied(root: Path) -> None:
    before = fingerprint(root)
    assert read_inputs(root).copies == ()
    (root / "data/extra/cat.png").write_bytes(b"cat")
    assert read_inputs(root).copies == ("data/extra/cat.png",)
    assert fingerprint(root) != before


def test_a_wholly_untracked_folder_is_copied_in_one_piece() -> None:
    assert list_copies(["data/extra/sub/a.png", "data/extra/sub/b.png", "data/extra/c.png"], ["data/extra/README.md"]) == (
        "data/extra/sub",
        "data/extra/c.png",
    )


def test_a_wrong_override_names_its_run(root: Path) -> None:
    with pytest.raises(ValueError, match=r"run bad \(retrieval.kk=1\)"):
        plan_runs([Run("bad", ("retrieval.kk=1",))], read_inputs(root), root=root)


def test_uncommitted_changes_are_noticed(root: Path) -> None:
    assert not has_changes(root)
    (root / "new.txt").write_text("untracked files do not count")
    assert not has_changes(root)
    (root / "code/report.py").write_text("changed")
    assert has_changes(root)


def test_plans_compare_by_content() -> None:
    assert Plan(DEFAULT, "a" * 10) == Plan(DEFAULT, "a" * 10)
