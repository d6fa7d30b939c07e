"""`make exps` shows what fits a screen. Run: python -m pytest tests/experiments/test_show.py"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from tests.toy_project import ToyProject

SCRIPT = """
import json, pathlib, yaml
params = yaml.safe_load(open("params.yaml"))
pathlib.Path("data").mkdir(exist_ok=True)
names = ["style_accuracy", "delta_r", "cps", "ssim_pers"]
figures = {name: params["retrieval"]["k"] + place for place, name in enumerate(names)}
pathlib.Path("data/evaluation.json").write_text(json.dumps({"ragar": figures, "sd": figures}))
pathlib.Path("data/ranker.json").write_text(json.dumps({"seed": 0, "loss": params["retrieval"]["k"] / 2}))
pathlib.Path("data/out.txt").write_text(str(params))
"""
PIPELINE = {
    "stages": {
        "all": {
            "cmd": "python all.py",
            "deps": ["all.py"],
            "params": ["seed", "retrieval", "evaluation", "models"],
            "outs": ["data/out.txt", "data/evaluation.json", "data/ranker.json"],
        }
    },
    "metrics": ["data/evaluation.json", "data/ranker.json"],
}
PARAMS = "seed: 0\nretrieval: {k: 5, strategy: ret}\nevaluation: {main_method: ragar}\nmodels: {profile: embedded}\n"


def test_the_columns_are_the_main_figures_and_the_params_that_differ(tmp_path: Path) -> None:
    project = ToyProject(tmp_path / "project")
    (project.root / "all.py").write_text(SCRIPT)
    (project.root / "dvc.yaml").write_text(json.dumps(PIPELINE))
    (project.root / "params.yaml").write_text(PARAMS)
    project.env |= {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "t"), ("EMAIL", "t@example.org"))}
    project.run("dvc", "repro", "--quiet")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "all")

    def show() -> list[dict[str, str]]:
        return list(csv.DictReader(project.run(sys.executable, "-m", "experiments.show", "--args", "--csv").splitlines()))

    figures = ["ragar.style_accuracy", "ragar.delta_r", "ragar.cps"]
    assert [name for name in show()[0] if "." in name] == figures, "they stay where nothing differs"
    project.run("dvc", "exp", "run", "--quiet", "-n", "seven", "-S", "retrieval.k=7", "-S", "seed=1")
    rows = show()
    assert [name for name in rows[0] if "." in name or name.endswith("seed")] == [*figures, "params.yaml:seed", "retrieval.k"]
    assert rows[0].keys() <= {"Experiment", "rev", "typ", "Created", "parent", "State", "Executor", *figures, "params.yaml:seed", "retrieval.k"}
    assert [row["ragar.delta_r"] for row in rows if row["Experiment"] == "seven"] == ["8"]
