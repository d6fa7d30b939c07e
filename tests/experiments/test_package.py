"""The package's place in the repository. Run: python -m pytest tests/experiments/test_package.py -q"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from experiments.catalogue import EXPERIMENTS

REPO = Path(__file__).resolve().parents[2]
MODULES = sorted((REPO / "experiments").glob("*.py"))
MAKEFILE = (REPO / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_module_has_a_docstring_and_imports_no_stage(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    assert not [name for name in names if name.split(".")[0] in ("stages", "embedded", "tests")]


def test_nothing_imports_the_experiments() -> None:
    for folder in ("pipeline", "stages", "embedded"):
        for path in (REPO / folder).rglob("*.py"):
            assert not re.search(r"^\s*(from|import) experiments\b", path.read_text(encoding="utf-8"), flags=re.MULTILINE), path


@pytest.mark.parametrize("name", [*(experiment.name for experiment in EXPERIMENTS), "claims", "experiments"])
def test_every_experiment_has_a_make_target_with_its_help(name: str) -> None:
    assert re.search(rf"^{name}: setup  ## \S", MAKEFILE, flags=re.MULTILINE), name
    assert re.search(rf"^\.PHONY:.*\b{name}\b", MAKEFILE, flags=re.MULTILINE), name


def test_make_help_lists_targets_with_digits_in_their_names() -> None:
    pattern = re.search(r"grep -hE '([^']+)'", MAKEFILE)[1]
    assert re.match(pattern, "fig2: setup  ## the figure")


def test_targets_do_not_collide_with_stages() -> None:
    stages = re.search(r"^STAGES := (.*)$", MAKEFILE, flags=re.MULTILINE)[1].split()
    assert not {experiment.name for experiment in EXPERIMENTS} & set(stages)


def test_the_readmes_map_names_every_module() -> None:
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    for path in MODULES:
        assert path.name in readme or path.name in ("__init__.py", "__main__.py"), path.name


def test_the_docs_point_to_files_that_exist_or_that_a_target_writes() -> None:
    written = {f"{experiment.name}.{suffix}" for experiment in EXPERIMENTS for suffix in ("md", "csv", "svg")} | {"claims.json"}
    for page in (REPO / "docs").rglob("*.md"):
        if page.stem not in {experiment.name for experiment in EXPERIMENTS}:
            for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
                assert (page.parent / target).exists() or Path(target).name in written, f"{page.name}: {target}"
