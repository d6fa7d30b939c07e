"""`make use` and the runs after it, as commands in a project of two stages. Run: python -m pytest tests/pipeline/test_choice_commands.py"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.pipeline.test_choice import write_conf
from tests.toy_project import REPO, ToyProject

PIPELINE = """
stages:
  dataset:
    cmd: >-
      python -c "import pathlib, yaml; block = yaml.safe_load(open('params.yaml'))['dataset']; out = pathlib.Path('data/dataset');
      out.mkdir(parents=True, exist_ok=True); (out / 'items.parquet').write_text(block['name'])"
    params: [dataset]
    outs: [data/dataset/items.parquet]
  retrieval:
    cmd: >-
      python -c "import pathlib, yaml; k = yaml.safe_load(open('params.yaml'))['retrieval']['k'];
      pathlib.Path('data/out.txt').write_text(pathlib.Path('data/dataset/items.parquet').read_text() + str(k))"
    deps: [data/dataset/items.parquet]
    params: [retrieval]
    outs: [data/out.txt]
"""


@pytest.fixture
def project(tmp_path: Path) -> ToyProject:
    """A project of two stages, with what the Makefile needs, that has been run once."""
    project = ToyProject(tmp_path / "project")
    root = project.root
    project.run("dvc", "config", "hydra.enabled", "true")
    write_conf(root / "conf")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / ".gitignore").write_text("/data\n/conf/local/\n/.venv\n/.work\n/requirements*.lock\n")
    (root / ".venv").mkdir()
    for name in ("requirements-installer.lock", "requirements.lock", "requirements-weights.lock", ".venv/.installed"):
        (root / name).touch()
    (root / "data" / "raw" / "shop").mkdir(parents=True)
    project.env |= {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "t"), ("EMAIL", "t@example.org"))}
    project.env["PYTHONDONTWRITEBYTECODE"] = "1"
    project.run(sys.executable, "-m", "pipeline.compose")
    project.run("dvc", "repro", "--quiet")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "two stages")
    return project


def use(project: ToyProject, *words: str) -> str:
    return project.run(sys.executable, "-m", "pipeline.use", *words)


def read_out(project: ToyProject) -> str:
    return (project.root / "data" / "out.txt").read_text()


def test_the_next_experiment_stays_with_the_data_set_and_the_way_back_computes_nothing(project: ToyProject) -> None:
    said = project.run(sys.executable, "-m", "experiments.launch", "exp", "run", "--args", "-S dataset=shop")
    assert "note: data/dataset holds the tables of dataset=stickers; this run puts those of dataset=shop in their place." in said
    said = project.run(sys.executable, "-m", "experiments.launch", "exp", "run", "--args", "-S retrieval.k=7")
    assert said.startswith("chosen: dataset=shop (")
    assert "note:" not in said
    assert read_out(project) == "shop7"
    use(project, "dataset=stickers")
    assert "is cached - skipping run" in project.run("dvc", "repro")
    assert read_out(project) == "stickers5"
    assert project.run("git", "status", "--porcelain") == ""


STAGE = """
import pathlib
from stages.entry import run_stage
import typer
app = typer.Typer(add_completion=False)
@app.command()
def main() -> None:
    pathlib.Path("data/dataset").mkdir(parents=True, exist_ok=True)
    pathlib.Path("data/dataset/items.parquet").write_text("x")
run_stage(app)
"""


def test_a_bare_dvc_says_it_too_where_the_stage_begins(project: ToyProject) -> None:
    (project.root / "stage.py").write_text(STAGE)
    pipeline = yaml.safe_load(PIPELINE)
    pipeline["stages"]["dataset"]["cmd"] = "python stage.py"
    (project.root / "dvc.yaml").write_text(json.dumps(pipeline))
    assert "note:" not in project.run("dvc", "repro", "dataset")
    use(project, "dataset=shop")
    assert "note: data/dataset held the tables of dataset=stickers; this run puts those of dataset=shop" in project.run("dvc", "repro", "dataset")
    use(project, "dataset=stickers_small")
    assert "note:" not in project.run(sys.executable, "-m", "pipeline.dvc_command", "repro", "dataset"), "make has said so"


def test_dvc_itself_sees_the_choice(project: ToyProject) -> None:
    use(project, "dataset=shop", "retrieval.k=6")
    project.run("dvc", "repro")
    assert read_out(project) == "shop6"
    project.run("dvc", "exp", "run", "-S", "retrieval.k=7")
    assert read_out(project) == "shop7"
    project.run("dvc", "exp", "run", "--temp", "-n", "mine", "-S", "retrieval.k=8")
    ref = next(ref for ref in project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split() if ref.endswith("/mine"))
    params = yaml.safe_load(project.run("git", "show", f"{ref}:params.yaml"))
    assert (params["dataset"]["name"], params["retrieval"]["k"]) == ("shop", 8)
    assert "local" not in project.run("git", "ls-tree", "-r", "--name-only", ref)


def test_git_sees_the_params_alone_and_nothing_after_the_way_back(project: ToyProject) -> None:
    assert use(project).startswith("nothing is chosen: the data set is stickers, ")
    said = use(project, "-S", "dataset=shop")
    assert said.splitlines()[0] == "chosen: dataset=shop"
    assert "before git pull: make use ARGS=--reset && git checkout dvc.lock" in said
    assert "note: data/dataset holds the tables of dataset=stickers; " in said
    assert use(project).splitlines()[0] == "chosen: dataset=shop"
    assert project.run("git", "status", "--porcelain") == " M params.yaml\n"
    assert use(project, "--reset").startswith("nothing is chosen: ")
    assert project.run("git", "status", "--porcelain") == ""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_what_only_looks_at_data_changes_no_tracked_file_and_takes_the_words_of_an_experiment(project: ToyProject) -> None:
    for typed in ("-S dataset=shop", "dataset=shop", "--set-param dataset=shop -Sretrieval.k=7"):
        command = ["make", "--file", str(REPO / "Makefile"), f"PY={sys.executable}", "check-data", f"ARGS={typed}"]
        ended = subprocess.run(command, cwd=project.root, env=project.env, capture_output=True, text=True, check=False)
        assert "dataset.name is 'shop', but it must be one of: " in ended.stderr  # the toy has no adapter: these were the params
        assert project.run("git", "status", "--porcelain") == ""
        assert not (project.root / "conf" / "local").exists()
    assert yaml.safe_load((project.root / "data" / "check" / "params.yaml").read_text())["retrieval"]["k"] == 7
    with contextlib.chdir(project.root):
        assert (project.root / "data" / "dataset" / "items.parquet").read_text() == "stickers"
