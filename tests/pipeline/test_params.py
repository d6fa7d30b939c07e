"""Strict reading of params.yaml. Run: python -m pytest tests/pipeline/test_params.py"""

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Len
from pydantic import NonNegativeInt

from pipeline.compose import compose_params
from pipeline.config import config_dataclass
from pipeline.fingerprint import compute_fingerprint
from pipeline.params import load_params, load_seed


@config_dataclass
class InnerConfig:
    width: NonNegativeInt


@config_dataclass
class ToyConfig:
    k: NonNegativeInt
    rate: float
    mode: Literal["ret", "random"]
    names: tuple[str, ...]
    prompt: str | None
    inner: InnerConfig

    def __post_init__(self) -> None:
        if self.k > 10 * self.rate:
            raise ValueError(f"k is {self.k}, but it must be at most ten times the rate.")


GOOD = "{k: 5, rate: 1, mode: ret, names: [a], prompt: null, inner: {width: 2}}"


def write(path: Path, block: str) -> Path:
    file = path / "params.yaml"
    file.write_text(f"seed: 3\ntoy: {block}\n")
    return file


def test_a_block_becomes_its_dataclass(tmp_path: Path) -> None:
    config = load_params(write(tmp_path, GOOD), "toy", ToyConfig)
    assert config == ToyConfig(k=5, rate=1.0, mode="ret", names=("a",), prompt=None, inner=InnerConfig(width=2))
    assert isinstance(config.rate, float)
    assert load_seed(tmp_path / "params.yaml") == 3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("k: 5", "kk: 5", ["toy: unknown key `kk`", "mode", "names"]),
        ("k: 5", "k: 5, 2020-01-01: 3", ["toy: keys must be str"]),
        ("k: 5, ", "", ["`k` is missing"]),
        ("k: 5", "k: '5'", ["toy.k", "'5'", "int"]),
        ("k: 5", "k: true", ["toy.k", "int"]),
        ("k: 5", "k: 5.0", ["toy.k", "int"]),
        ("k: 5", "k: -1", ["toy.k is -1, but it must be >= 0."]),
        ("k: 5", "k: 11", ["toy: k is 11, but it must be at most ten times the rate."]),
        ("rate: 1", "rate: true", ["toy.rate is True, but it must be a valid number."]),
        ("rate: 1", "rate: 1e-5", ["toy.rate is '1e-5', but it must be a valid number."]),
        ("rate: 1", "rate: .nan", ["toy.rate is nan, but it must be a finite number."]),
        ("rate: 1", "rate: -.inf", ["toy.rate is -inf, but it must be a finite number."]),
        ("mode: ret", "mode: best", ["'best'", "'ret' or 'random'"]),
        ("names: [a]", "names: a", ["toy.names", "list"]),
        ("names: [a]", "names: [a, 3]", ["toy.names[1] is 3"]),
        ("inner: {width: 2}", "inner: 2", ["toy.inner is 2, but it must be a block of width."]),
        ("width: 2", "width: 2, depth: 3", ["toy.inner: unknown key `depth`; allowed are: width."]),
        ("width: 2", "", ["toy.inner: `width` is missing; all of these are needed: width."]),
        ("width: 2", "width: -1", ["toy.inner.width is -1, but it must be >= 0."]),
        ("prompt: null", "prompt: 3", ["toy.prompt", "str"]),
    ],
)
def test_a_wrong_param_gets_one_sentence_that_names_it(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match="toy") as error:
        load_params(write(tmp_path, GOOD.replace(old, new)), "toy", ToyConfig)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


@config_dataclass
class ListConfig:
    parts: Annotated[tuple[InnerConfig, ...], Len(1)]


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("{parts: [{width: 2}, {width: 2, depth: 3}]}", "toy.parts[1]: unknown key `depth`; allowed are: width."),
        ("{parts: [{}]}", "toy.parts[0]: `width` is missing; all of these are needed: width."),
        ("{parts: [{width: 2}, 3]}", "toy.parts[1] is 3, but it must be a block of width."),
        ("{parts: [{width: -1}]}", "toy.parts[0].width is -1, but it must be >= 0."),
        ("{parts: []}", "toy.parts is [], but it must be a list of 1 or more."),
    ],
)
def test_a_wrong_entry_of_a_list_of_blocks_gets_one_sentence(tmp_path: Path, block: str, sentence: str) -> None:
    file = write(tmp_path, block)
    with pytest.raises(ValueError, match="^" + re.escape(f"{file}: {sentence}") + "$"):
        load_params(file, "toy", ListConfig)


def test_a_block_that_is_none_lists_its_fields(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"toy is \[1\], but it must be a block of inner, k, mode, names, prompt, rate\.$"):
        load_params(write(tmp_path, "[1]"), "toy", ToyConfig)


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
