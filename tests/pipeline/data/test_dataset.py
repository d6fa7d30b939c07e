"""The list of adapters and what they share. Run: python -m pytest tests/pipeline/data/test_dataset.py"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.compose import compose_params
from pipeline.data.build import build_dataset, list_adapters
from pipeline.data.dataset import build_interactions
from pipeline.params import read_section
from tests.test_repo_rules import REPO

NAMES = sorted(path.stem for path in (REPO / "conf" / "dataset").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_config_group_composes_for_an_adapter_and_without_raw_files_the_sentence_says_where_they_belong(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tmp_path / "params.yaml"
    compose_params([f"dataset={name}"], conf=REPO / "conf", out=params)
    assert read_section(params, "dataset.name") in list_adapters()
    raw = read_section(params, "dataset.raw")
    assert raw.startswith("data/raw/")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^{raw}.* does not exist"):
        build_dataset(params, tmp_path / "extra", seed=0)


def test_the_conf_says_what_the_papers_table_2_says(tmp_path: Path) -> None:
    table = {"pog": (1000, 19_242), "ml_latest": (4689, 9742), "ser30k": (2230, 30_739)}
    for name, counts in table.items():
        compose_params([f"dataset={name}"], conf=REPO / "conf", out=tmp_path / "params.yaml")
        assert tuple(read_section(tmp_path / "params.yaml", f"dataset.paper_{kind}") for kind in ("users", "items")) == counts


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("dataset: {name: pogs}\n")
    with pytest.raises(
        ValueError, match=r"dataset\.name is 'pogs', but it must be one of: artmoji, folder, ml_latest, pigeon, pog, ser30k, stylemoji"
    ):
        build_dataset(tmp_path / "params.yaml", tmp_path, seed=0)


def test_a_users_cases_share_one_history_without_what_is_to_be_found() -> None:
    cases = [
        {"user_id": "u", "split": "train", "history": ["a", "b"], "reference_id": "c"},
        {"user_id": "u", "split": "test", "history": ["b", "c", "e"], "reference_id": "d"},
        {"user_id": "u", "split": "val", "history": ["d"], "reference_id": "e"},
        {"user_id": "v", "split": "test", "history": ["d"], "reference_id": "a"},
    ]
    rows = [(row["user_id"], row["item_id"], row["position"]) for row in build_interactions(cases)]
    assert rows == [("u", "a", 0), ("u", "b", 1), ("u", "c", 2), ("v", "d", 0)]
