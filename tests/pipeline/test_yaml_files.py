"""YAML and JSON that nobody has checked: plain values or one sentence. Run: python -m pytest tests/pipeline/test_yaml_files.py"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.compose import compose_params
from pipeline.json_files import read_json
from pipeline.params import read_document
from pipeline.yaml_files import MAX_BYTES, MAX_DEPTH, read_yaml_mapping

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
LONG_TEXT = f"a: &a '{'x' * 100_000}'\nb: [{', '.join(['*a'] * 1000)}]\n"

BAD = {
    "a: !!python/object/apply:os.system ['touch made']": r"line 1: the tag `!!python/object/apply:os.system` is not allowed; write a plain value",
    "x: 1\na: !foo 3": r"line 2: the tag `!foo` is not allowed",
    "!foo\na: 3": r"line 1: the tag `!foo` is not allowed",
    "a: !!set {x}": r"the tag `!!set` is not allowed",
    "%TAG ! tag:evil.org,2000:\n---\na: !x 1": r"the tag `tag:evil.org,2000:x` is not allowed",
    LAUGHS: r"line 6: the file stands for more than the allowed 100,000 values, aliases counted",
    LONG_TEXT: r"line 2: the file stands for more than the allowed 100,000 values",
    "a: &a [*a]": r"line 1: the alias `\*a` stands for nothing, or for something that holds it",
    "a: *b": r"the alias `\*b` stands for nothing",
    "a: " + "[" * 100_000: rf"line 1: the values are nested deeper than the allowed {MAX_DEPTH} levels",
    "".join(" " * n + "a:\n" for n in range(1200)): rf"line 51: the values are nested deeper than the allowed {MAX_DEPTH} levels",
    "a: 1\nb: 2\na: 3": r"line 3: the key `a` is there twice",
    "x: {a: 1, 'a': 2}": r"line 1: the key `a` is there twice",
    "- a\n- b": r"holds a list, but it must hold names with values",
    "just words": r"holds a str, but it must hold names with values",
    "a: 1\n---\nb: 2": r"line 2: expected a single document",
    "a: 2020-99-99": r"holds a value that cannot be read \(month must be in 1..12\)",
    "a: " + "9" * 5000: r"holds a value that cannot be read \(Exceeds the limit",
    "? [a]\n: b": r"line 1: .*unhashable key",
    "a: [1": r"line 2: .*did not find expected",
    "a: \x1b[31m": r"is no readable YAML file \(unacceptable character #x001b",
    "a: " + "x" * MAX_BYTES: rf"is larger than the allowed {MAX_BYTES:,} bytes",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:24].replace("\n", " "))
def test_a_hostile_or_broken_file_gets_one_sentence_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    started = time.monotonic()
    with pytest.raises(ValueError, match=BAD[text]) as error:
        read_document(path)
    assert time.monotonic() - started < 2
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert not list(tmp_path.glob("made"))


def test_other_encodings_get_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes("a: Größe".encode("cp1252"))
    with pytest.raises(ValueError, match=r"p\.yaml is not UTF-8 .* save it in the encoding UTF-8"):
        read_yaml_mapping(tmp_path / "p.yaml")


def test_what_people_write_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("\ufeffa: &a {x: 1, y: [2.5, true, null]}\nb: {<<: *a, x: 3}\nc: !!str 5\nd: *a\n", encoding="utf-8")
    a = {"x": 1, "y": [2.5, True, None]}
    assert read_yaml_mapping(tmp_path / "p.yaml") == {"a": a, "b": a | {"x": 3}, "c": "5", "d": a}
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml_mapping(tmp_path / "empty.yaml") == {}


@pytest.mark.parametrize("text", ["seed: !!python/name:os.system x", LAUGHS, "- a", "seed: 1\nseed: 2", "seed: " + "[" * 10_000])
def test_composing_reads_no_hostile_group_and_keeps_the_params(tmp_path: Path, text: str) -> None:
    conf, out = tmp_path / "conf", tmp_path / "params.yaml"
    (conf / "models").mkdir(parents=True)
    (conf / "config.yaml").write_text("seed: 3\n")
    (conf / "models" / "mine.yaml").write_text(text)
    out.write_text("old")
    with pytest.raises(ValueError, match=r"mine\.yaml.*(tag|values|key|list)"):
        compose_params([], conf=conf, out=out)
    assert out.read_text() == "old"


def test_an_override_that_is_nested_too_deeply_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    with pytest.raises(ValueError, match="override") as error:
        compose_params([f"seed={'[' * 3000}{']' * 3000}"], conf=tmp_path, out=tmp_path / "params.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"9" * 5000, "Exceeds the limit"),
        (b"\xff\xfe{}", "codec can't decode|BOM"),
        (b"{'a': 1}", "Expecting property name"),
        (b"", "Expecting value"),
    ],
)
def test_a_broken_json_file_gets_one_sentence(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ValueError, match=rf"x\.json is not a readable JSON file \(.*({words})"):
        read_json(tmp_path / "x.json")
