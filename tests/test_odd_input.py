"""docs/odd_input.md names tests that there are, and quotes what they assert. Run: python -m pytest tests/test_odd_input.py -q"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PAGE = (REPO / "docs" / "odd_input.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if re.match(r"\| \d", line)]
TEST = re.compile(r"`(tests/[a-z_0-9/]+\.py)::(test_[a-z_0-9]+)`")
QUOTED = re.compile(r'"([^"]+)"')
GAP = "…"  # stands for a name or a number in a quoted sentence


@cache
def parse(file: str) -> ast.Module:
    return ast.parse((REPO / file).read_text(encoding="utf-8"))


def list_texts(file: str) -> list[str]:
    """Return the strings in a file of tests, patterns without their backslashes."""
    nodes = ast.walk(parse(file))
    return [node.value.replace("\\", "") for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_there_is_a_row_for_each_of_the_28_kinds() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, 29))
    assert {len(row) for row in ROWS} == {4}


@pytest.mark.parametrize(("file", "name"), sorted(set(TEST.findall(PAGE))))
def test_a_test_that_the_page_names_is_there(file: str, name: str) -> None:
    assert name in [node.name for node in parse(file).body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_tests_alone_and_they_hold_the_sentences_that_it_quotes(row: list[str]) -> None:
    tests = TEST.findall(row[3])
    assert row[3] == ", ".join(f"`{file}::{name}`" for file, name in tests) != ""
    texts = [text for file in {file for file, _ in tests} for text in list_texts(file)]
    for sentence in QUOTED.findall(row[2]):
        for part in filter(None, map(str.strip, sentence.split(GAP))):
            assert any(part in text for text in texts), part
