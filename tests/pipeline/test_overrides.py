"""Overrides mean what people type, whatever letters are in a path. Run: python -m pytest tests/pipeline/test_overrides.py"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.compose import compose_params
from pipeline.models import folders
from pipeline.overrides import clean_override, drop_setters, split_arguments
from tests.toy_project import REPO

NAMES = [
    "a",
    "my pics",
    "é",
    "e\u0301",
    "新加卷",
    "a (1)",
    "a=b",
    "it's",
    'a "b" c',
    "a,b",
    "[a]",
    "{a}",
    "a;b&c|d",
    "a#b",
    "a$b",
    "a`b`",
    "a\\",
    "a\\'b",
    "~a",
    "a!*?",
]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("dataset: {raw: x, size: 1, splits: [0.5, 0.5]}\nretrieval: {k: 5, strategy: ret}\n")
    return tmp_path / "conf"


def compose(conf: Path, *overrides: str) -> dict:
    compose_params(list(overrides), conf=conf, out=conf.parent / "params.yaml")
    return yaml.safe_load((conf.parent / "params.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_path_arrives_letter_by_letter(conf: Path, name: str) -> None:
    folder = conf.parent / "raw" / name
    folder.mkdir(parents=True)
    assert compose(conf, f"dataset.raw={folder}")["dataset"]["raw"] == str(folder)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "[a]"])
def test_a_path_that_is_not_there_arrives_too(conf: Path, name: str) -> None:
    assert compose(conf, f"dataset.raw=/nowhere/{name}")["dataset"]["raw"] == f"/nowhere/{name}"


@pytest.mark.parametrize(
    ("typed", "meant"), [("~", "/home/anna"), ("~/pics", "/home/anna/pics"), ("'~/my pics'", "/home/anna/my pics"), ("~/é (1)", "/home/anna/é (1)")]
)
def test_the_home_folder_is_written_out(conf: Path, monkeypatch: pytest.MonkeyPatch, typed: str, meant: str) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert compose(conf, f"dataset.raw={typed}")["dataset"]["raw"] == meant


def test_a_home_folder_in_conf_is_a_sentence(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    (conf / "config.yaml").write_text("dataset: {raw: ~/pics}\n")
    with pytest.raises(ValueError, match=r"^conf/dataset: raw is ~/pics; only an override may begin with ~, in conf/ write /home/anna/pics\.$"):
        compose(conf)


def test_what_hydra_reads_stays_as_it_is(conf: Path) -> None:
    params = compose(conf, "dataset.size=7", "dataset.splits=[0.9, 0.1]", "retrieval.strategy='random'", "+dataset.new=null", "~retrieval.k")
    assert params == {"dataset": {"raw": "x", "size": 7, "splits": [0.9, 0.1], "new": None}, "retrieval": {"strategy": "random"}}
    for override in ("a.b=1,2", "a=choice(1,2)", "a=${seed}", "a=null", "a=1e-3", "a=", 'a="b c"', "++a.b=1", "dataset=folder"):
        assert clean_override(override) == override
    assert clean_override("a=/x/b,/x/c", queued=True) == "a=/x/b,/x/c"
    assert clean_override("a=/x/b,c") == "a='/x/b,c'"


@pytest.mark.parametrize("typed", ["pics", "my pics (1)", "/x=1", "=1", "--temp"])
def test_what_is_no_override_is_a_sentence_that_shows_the_quotes(conf: Path, typed: str) -> None:
    with pytest.raises(ValueError, match=r"is no override: it must be name=value, .* ARGS='dataset\.raw=\"/data/my pics \(1\)\"'\.$"):
        compose(conf, typed)


def test_an_override_may_stand_behind_the_option_of_an_experiment() -> None:
    typed = ["-S", "a=1", "-Sb=2", "-S=c=3", "--set-param", "d=4", "--set-param=e=5", "f=6"]
    assert drop_setters(typed) == ["a=1", "b=2", "c=3", "d=4", "e=5", "f=6"]
    with pytest.raises(ValueError, match=r"^-S stands there without an override; write it behind, as in -S retrieval\.k=7\.$"):
        drop_setters(["a=1", "-S"])


def test_args_are_split_by_quotes_and_spaces_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICS", "/x/y")
    text = """dataset.raw="/x/a b (1)"  k=7 'a=it is' b=é;&|<>#(1) c=\\n d=$PICS e=$$PICS"""
    assert split_arguments(text) == ["dataset.raw=/x/a b (1)", "k=7", "a=it is", "b=é;&|<>#(1)", "c=\\n", "d=/x/y", "e=/x/y"]
    with pytest.raises(ValueError, match="a quote that is not closed"):
        split_arguments("dataset.raw=/x/it's")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ('dataset.raw="/x/my pics (1)"', "/x/my pics (1)"),
        ("dataset.raw=/x/a(1)&b;c", "/x/a(1)&b;c"),
        ("dataset.raw=/x/新加卷=é", "/x/新加卷=é"),
        ('dataset.raw="/x/it\'s"', "/x/it's"),
        ("dataset.raw=~/pics", "/home/anna/pics"),
        ("dataset.raw=$HOME/pics", "/home/anna/pics"),
        ("dataset.raw=$$HOME/pics", "/home/anna/pics"),
        ("dataset.raw=${HOME}/pics", "/home/anna/pics"),
        ("\n  dataset.raw=/x/y\n  retrieval.k=7\n", "/x/y"),
    ],
)
def test_make_hands_args_on_as_they_are(conf: Path, typed: str, meant: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPO), "HOME": "/home/anna"}
    (conf.parent / ".venv").mkdir()
    for name in ("requirements-installer.lock", "requirements.lock", "requirements-weights.lock", ".venv/.installed"):
        (conf.parent / name).touch()
    command = ["make", "--file", str(REPO / "Makefile"), f"PY={sys.executable}", "params", f"ARGS={typed}"]
    ended = subprocess.run(command, cwd=conf.parent, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert yaml.safe_load((conf.parent / "params.yaml").read_text(encoding="utf-8"))["dataset"]["raw"] == meant


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("retrieval.K=7", "there is no param retrieval.K; did you mean retrieval.k?"),
        ("retreival.k=7", "there is no param retreival.k; did you mean retrieval.k?"),
        ("k=7", "there is no param k; did you mean retrieval.k?"),
        ("image_size=64", "there is no param image_size; did you mean dataset.image_size?"),
        ("Dataset=pog", "there is no param Dataset; did you mean dataset?"),
        ("wholly.different=1", "there is no param wholly.different; conf/ has all of them."),
        ("dataset=POG", "dataset is 'POG', but it must be one of: artmoji, artmoji_small, folder, ml_latest, "),
        ("dataset=pogg", "stylemoji_themes; did you mean pog?"),
        (
            "retrieval.k=7,8",
            "retrieval.k=7,8 are several values, which only queued experiments take (ARGS='--queue -S ...'); a list is",
        ),
        ("--set", "--set is not written here; params stand alone or behind -S, as in ARGS='-S retrieval.k=7 -S dataset=folder'."),
    ],
)
def test_an_override_that_fits_no_param_names_the_one_that_was_meant(tmp_path: Path, typed: str, words: str) -> None:
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        compose_params([typed], conf=REPO / "conf", out=tmp_path / "params.yaml")
    assert words in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("retrieval.k=seven", "params.yaml: retrieval.k is 'seven', but it must be a valid integer."),
        ("retrieval.k=", "params.yaml: retrieval.k is '', but"),
        ("retrieval.k==7", "params.yaml: retrieval.k is '=7', but"),
        ("retrieval.k=1e3", "params.yaml: retrieval.k is 1000.0, but it must be a valid integer."),
        ("+retrieval.z=7", "params.yaml: retrieval: unknown key `z`; allowed are: "),
        ("retrieval=7", "params.yaml: retrieval is 7, but it must be a block of "),
        ("evaluation.level=95", "params.yaml: evaluation.level is 95, but it must be < 1."),
        ("pmg.selection.alpha=2", "params.yaml: pmg.selection.alpha is 2, but it must be <= 1."),
        ("runtime.device=gpu", "params.yaml: runtime.device is 'gpu', but it must be 'auto', 'cpu' or 'cuda'."),
        ("seed=-1", "params.yaml: `seed` is -1, but it must be an integer >= 0."),
        ("seed=007", "params.yaml: `seed` is '007', but it must be an integer >= 0."),
        ("dataset.noise=3", "params.yaml: dataset.noise is 3, but it must be < 1."),
        ("dataset.raw=", "params.yaml: dataset.raw is '', but it must be a text that is not empty."),
        ("dataset.raw=null", "params.yaml: dataset.raw is None, but it must be a valid string."),
    ],
)
def test_a_value_that_a_late_stage_would_refuse_is_refused_before_the_first_one(tmp_path: Path, typed: str, words: str) -> None:
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        compose_params([typed], conf=REPO / "conf", out=tmp_path / "params.yaml")
    assert str(error.value).startswith(words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["glide", "lavit"])
def test_a_small_generator_that_nobody_has_trained_is_refused_before_the_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(folders, "SHIPPED_DIR", tmp_path / "weights")
    with pytest.raises(ValueError, match=rf"^embedded/weights/{method} holds no files, train it with the recipes in embedded/$"):
        compose_params([f"comparison.{method}=true"], conf=REPO / "conf", out=tmp_path / "params.yaml")
    for cure in ("models=paper", f"models.{method}=null", f"comparison.{method}=false"):
        compose_params([f"comparison.{method}=true", cure], conf=REPO / "conf", out=tmp_path / "params.yaml")


@pytest.mark.parametrize("typed", ["preference.visual_tokens=4", "comparison.ip_adapter=true", "comparison.oracle=true"])
def test_look_tokens_are_refused_for_a_drawing_model_that_has_never_seen_them(tmp_path: Path, typed: str) -> None:
    with pytest.raises(ValueError, match="^models.diffusion is embedded/diffusion, which has never seen .* take models=artists, or [^\n]*$"):
        compose_params([typed], conf=REPO / "conf", out=tmp_path / "params.yaml")
    for cure in ("models=artists", "models.look=./data/look"):  # the second is the map that the stage trains
        compose_params([typed, cure], conf=REPO / "conf", out=tmp_path / "params.yaml")
