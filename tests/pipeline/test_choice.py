"""What `make use` chooses holds for every composition, DVC's own too. Run: python -m pytest tests/pipeline/test_choice.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.__main__ import name_folder
from experiments.launch import complete
from pipeline.choice import change_choice, describe_choice, find_remembered, hold_choice, read_choice, write_choice
from pipeline.compose import compose_for_run, compose_params
from pipeline.replaced_tables import describe_replaced, name_data_set
from tests.toy_project import REPO

CONFIG = """
defaults:
  - _self_
  - dataset: stickers
  - models: small
  - optional local: choice
  - optional local/dataset@dataset: ${dataset}
  - optional local/models@models: ${models}
seed: 0
retrieval: {k: 5, strategy: ret}
"""
OPTIONS = {
    "dataset/stickers": "name: stickers\nraw: conf\nsize: 10\n",
    "dataset/stickers_small": "defaults: [stickers, _self_]\nsize: 3\n",
    "dataset/shop": "name: shop\nraw: data/raw/shop\n",
    "models/small": "# @package _global_\nmodels: {profile: small}\n",
    "models/paper": "# @package _global_\nmodels: {profile: paper}\nretrieval: {k: 9}\n",
}


def write_conf(conf: Path) -> None:
    for name, text in OPTIONS.items():
        path = conf / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (conf / "config.yaml").write_text(CONFIG)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    write_conf(tmp_path / "conf")
    return tmp_path / "conf"


def compose(conf: Path, *overrides: str) -> dict[str, Any]:
    compose_params(list(overrides), conf=conf, out=conf.parent / "params.yaml")
    return yaml.safe_load((conf.parent / "params.yaml").read_text())


def choose(conf: Path, *overrides: str) -> None:
    write_choice(change_choice(read_choice(conf), overrides, conf), conf)


def test_what_is_chosen_is_composed_and_an_override_of_one_run_comes_on_top(conf: Path) -> None:
    choose(conf, "dataset=shop", "dataset.raw='/my shop/é'", "retrieval.k=7")
    assert read_choice(conf) == {"dataset": "shop", "retrieval.k": 7, "dataset.raw": "/my shop/é"}
    shop = {"name": "shop", "raw": "/my shop/é"}
    assert compose(conf) == {"seed": 0, "dataset": shop, "models": {"profile": "small"}, "retrieval": {"k": 7, "strategy": "ret"}}
    assert compose(conf, "retrieval.k=3")["retrieval"] == {"k": 3, "strategy": "ret"}
    assert compose(conf, "dataset.raw=/other")["dataset"] == {"name": "shop", "raw": "/other"}
    assert compose(conf, "~local") == {**compose(conf, "~local", "dataset=stickers"), "retrieval": {"k": 5, "strategy": "ret"}}


def test_the_values_of_one_option_do_not_reach_another_one(conf: Path) -> None:
    choose(conf, "dataset=shop", "dataset.raw=/shop", "models.profile=mine")
    assert compose(conf, "dataset=stickers")["dataset"] == {"name": "stickers", "raw": "conf", "size": 10}
    assert compose(conf)["models"] == {"profile": "mine"}
    assert compose(conf, "models=paper")["models"] == {"profile": "paper"}


def test_a_chosen_value_wins_over_what_the_models_set(conf: Path) -> None:
    choose(conf, "models=paper")
    assert compose(conf)["retrieval"]["k"] == 9
    choose(conf, "retrieval.k=2")
    assert compose(conf)["retrieval"]["k"] == 2


def test_another_option_takes_the_values_of_the_one_before_away_and_the_default_leaves_nothing(conf: Path) -> None:
    choice = change_choice({}, ["dataset=shop", "dataset.raw=/shop", "retrieval.k=7"], conf)
    assert change_choice(choice, ["dataset=shop"], conf) == choice
    assert change_choice(choice, ["dataset=stickers_small"], conf) == {"retrieval.k": 7, "dataset": "stickers_small"}
    assert change_choice(choice, ["dataset=stickers"], conf) == {"retrieval.k": 7}
    choose(conf, "dataset=shop")
    choose(conf, "dataset=stickers")
    assert not (conf / "local").exists()
    assert describe_choice(read_choice(conf)) == []


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("retrieval.strategy='a b'", "a b"),
        ("retrieval.strategy=null", None),
        ("retrieval.strategy=[1,'x y']", [1, "x y"]),
        ("retrieval.strategy=1e-3", 0.001),
        ("retrieval.strategy=", ""),
        ("retrieval.strategy=it's", "it's"),
        ("retrieval.strategy='7'", "7"),
    ],
)
def test_values_are_chosen_as_they_are_meant_and_said_as_one_would_type_them(conf: Path, typed: str, value: object) -> None:
    choose(conf, typed)
    assert read_choice(conf) == {"retrieval.strategy": value}
    said = describe_choice(read_choice(conf))[0].removeprefix("chosen: ").partition(" (`make use`")[0]
    assert change_choice({}, [said], conf) == {"retrieval.strategy": value}


@pytest.mark.parametrize("typed", ["+retrieval.z=1", "~retrieval.k", "++retrieval.k=1", "retrieval.k=1,2"])
def test_what_cannot_be_chosen_is_a_sentence(conf: Path, typed: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be chosen; only name=value can, as in dataset=folder\.$"):
        change_choice({}, [typed], conf)


def test_a_choice_that_does_not_compose_is_not_kept(conf: Path) -> None:
    choose(conf, "retrieval.k=7")
    with pytest.raises(ValueError, match="dataset is 'nope'"), hold_choice({"dataset": "nope"}, conf):
        compose(conf)
    assert read_choice(conf) == {"retrieval.k": 7}


def test_a_run_remembers_its_data_set_and_nothing_else(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_remembered(["dataset=shop", "dataset.raw=/x", "dataset.size=3", "retrieval.k=7", "+dataset=a"]) == ["dataset=shop", "dataset.raw=/x"]
    compose_for_run(["dataset=shop", "dataset.raw=/x", "retrieval.k=7"], conf=conf, out=conf.parent / "params.yaml")
    assert read_choice(conf) == {"dataset": "shop", "dataset.raw": "/x"}
    assert capsys.readouterr().out.startswith("chosen: dataset=shop dataset.raw=/x (`make use` says more,")
    with pytest.raises(ValueError, match=r"there is no param retrieval\.kk"):
        compose_for_run(["dataset=stickers", "retrieval.kk=7"], conf=conf, out=conf.parent / "params.yaml")
    assert read_choice(conf) == {"dataset": "shop", "dataset.raw": "/x"}


def test_experiments_elsewhere_see_the_choice_and_do_not_change_it(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr("experiments.launch.list_needed", lambda composed, _: seen.extend(composed) or [])
    choose(conf, "dataset=stickers_small")
    complete(["exp", "run", "--temp", "-S", "retrieval.k=7"], conf.parent)
    complete(["exp", "run", "--queue", "-S", "dataset=shop"], conf.parent)
    assert [params["dataset"].get("size") for params in seen] == [3, None]
    assert read_choice(conf) == {"dataset": "stickers_small"}
    complete(["exp", "run", "-S", "dataset=shop"], conf.parent)
    assert read_choice(conf) == {"dataset": "shop"}


def test_results_under_a_choice_have_a_folder_of_their_own(conf: Path) -> None:
    assert (name_folder([], conf.parent), name_folder(["dataset=shop"], conf.parent)) == ("", "dataset-shop")
    choose(conf, "dataset=shop")
    assert name_folder([], conf.parent) == "dataset-shop"
    assert name_folder(["retrieval.k=7"], conf.parent) == "dataset-shop_retrieval.k-7"
    assert name_folder(["dataset=stickers"], conf.parent) == ""


def test_whose_tables_a_run_replaces_is_said_before(conf: Path) -> None:
    root = conf.parent
    small = compose(conf, "dataset=stickers_small")
    shop = compose(conf, "dataset=shop")
    assert describe_replaced(shop, root, conf=conf) == []
    outs = [{"path": "data/dataset/items.parquet", "hash": "md5", "md5": "0" * 32, "size": 1}]
    entry = {"cmd": "x", "params": {"params.yaml": {"dataset": small["dataset"]}}, "outs": outs}
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"dataset": entry}}) + "\n")
    assert describe_replaced(shop, root, conf=conf) == [], "there are no tables"
    (root / "data" / "dataset").mkdir(parents=True)
    (root / "data" / "dataset" / "items.parquet").touch()
    assert describe_replaced(small, root, conf=conf) == []
    assert describe_replaced(compose(conf, "dataset=stickers_small", "dataset.size=4"), root, conf=conf) == [], "the same data set, another size"
    assert describe_replaced(shop, root, conf=conf) == [
        "note: data/dataset holds the tables of dataset=stickers_small; this run puts those of dataset=shop in their place. DVC's cache keeps the "
        "old ones and all that was made from them: make use ARGS='dataset=stickers_small', then `make repro`, brings them back without computing."
    ]


@pytest.mark.parametrize("option", sorted(path.stem for path in (REPO / "conf" / "dataset").glob("*.yaml")))
def test_every_data_set_is_called_by_its_own_option(tmp_path: Path, option: str) -> None:
    compose_params([f"dataset={option}"], conf=REPO / "conf", out=tmp_path / "params.yaml")
    block = yaml.safe_load((tmp_path / "params.yaml").read_text())["dataset"]
    assert name_data_set(block, REPO / "conf") == f"dataset={option}"
    assert name_data_set({**block, "raw": "/else"}, REPO / "conf") == f"dataset={option} dataset.raw=/else"
