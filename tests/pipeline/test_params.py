"""Strict reading of params.yaml. Run: python -m pytest tests/pipeline/test_params.py"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pipeline.compose import compose_params
from pipeline.fingerprint import compute_fingerprint
from pipeline.params import load_params, load_seed


@dataclass(frozen=True)
class ToyConfig:
    k: int
    rate: float
    mode: Literal["ret", "random"]
    names: tuple[str, ...]
    prompt: str | None

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k is {self.k}, but it must be >= 0.")


GOOD = "{k: 5, rate: 1, mode: ret, names: [a], prompt: null}"


def write(path: Path, block: str) -> Path:
    file = path / "params.yaml"
    file.write_text(f"seed: 3\ntoy: {block}\n")
    return file


def test_a_block_becomes_its_dataclass(tmp_path: Path) -> None:
    config = load_params(write(tmp_path, GOOD), "toy", ToyConfig)
    assert config == ToyConfig(k=5, rate=1.0, mode="ret", names=("a",), prompt=None)
    assert isinstance(config.rate, float)
    assert load_seed(tmp_path / "params.yaml") == 3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("k: 5", "kk: 5", ["unknown key `kk`", "mode", "names"]),
        ("k: 5, ", "", ["`k` is missing"]),
        ("k: 5", "k: '5'", ["toy.k", "'5'", "int"]),
        ("k: 5", "k: true", ["toy.k", "int"]),
        ("k: 5", "k: 5.0", ["toy.k", "int"]),
        ("k: 5", "k: -1", ["k is -1", ">= 0"]),
        ("mode: ret", "mode: best", ["'best'", "ret, random"]),
        ("names: [a]", "names: a", ["toy.names", "list"]),
        ("prompt: null", "prompt: 3", ["toy.prompt", "str"]),
    ],
)
def test_a_wrong_param_gets_one_sentence_that_names_it(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match="toy") as error:
        load_params(write(tmp_path, GOOD.replace(old, new)), "toy", ToyConfig)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_block_lists_the_blocks_that_exist(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 3\nreport: {}\n")
    with pytest.raises(ValueError, match=r"no `retrieval`.*report, seed"):
        load_params(tmp_path / "params.yaml", "retrieval", ToyConfig)


def test_a_top_level_key_that_nothing_reads_is_refused_by_any_block(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    file.write_text(file.read_text() + "reflexion: {num_steps: 3}\n")
    with pytest.raises(ValueError, match=r"unknown key `reflexion` at the top level; allowed are: seed, .*reflection") as error:
        load_params(file, "toy", ToyConfig)
    assert "\n" not in str(error.value)


def test_composing_refuses_an_unknown_top_level_key_and_leaves_the_params_as_they_were(tmp_path: Path) -> None:
    conf, out = tmp_path / "conf", tmp_path / "params.yaml"
    conf.mkdir()
    (conf / "config.yaml").write_text("seed: 3\nruntime: {device: cpu}\n")
    compose_params(["seed=4"], conf=conf, out=out)
    assert out.read_text() == "seed: 4\nruntime:\n  device: cpu\n"
    with pytest.raises(ValueError, match="unknown key `x` at the top level"):
        compose_params(["+x=1"], conf=conf, out=out)
    assert out.read_text().startswith("seed: 4\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "params.yaml"]


def test_equal_values_have_equal_hashes_and_different_ones_do_not() -> None:
    assert compute_fingerprint({"b": 1, "a": b"x"}) == compute_fingerprint({"a": b"x", "b": 1})
    assert compute_fingerprint({"a": b"x"}) != compute_fingerprint({"a": b"y"})
    assert compute_fingerprint("ab", "c") != compute_fingerprint("a", "bc")
