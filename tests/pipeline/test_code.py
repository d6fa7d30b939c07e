"""The hash of the code that decides a result: what counts and what does not. Run: python -m pytest tests/pipeline/test_code.py"""

from __future__ import annotations

import ast
import functools
import textwrap
from pathlib import Path

import pytest

from pipeline import code, runtime
from pipeline.captioning import caption_batch


def tree(source: str) -> str:
    return "".join(code.write_tree(ast.parse(textwrap.dedent(source))))


SOURCE = '''
    """Module."""
    import os

    def double(x: int, *, by: int = 2) -> int:
        """Double."""
        return x * by  # twice

    class Thing:
        """Thing."""

        size = "a" "b"
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# twice", "# two times"),
        ('"""Double."""', '"""Another sentence,\n        on two lines."""'),
        ('"""Module."""', '"""Mod."""'),
        ('"""Thing."""\n\n        size', "size"),
        ("x * by", "(x  *  by)"),
        ('"a" "b"', "'ab'"),
        ("x: int, *, by: int = 2", "x: int,\n        *,\n        by: int = 2,\n    "),
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(old: str, new: str) -> None:
    assert old in SOURCE
    assert tree(SOURCE) == tree(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [("x * by", "x + by"), ("= 2", "= 3"), ('"b"', '"c"'), ("x * by", "x * by if x else by"), ("import os", "import sys"), ("size", "length")],
)
def test_every_other_edit_counts(old: str, new: str) -> None:
    assert tree(SOURCE) != tree(SOURCE.replace(old, new))


def test_the_closure_holds_what_is_imported_lazily_or_for_its_type_alone() -> None:
    names = [code.name_file(path) for path in code.compute_closure({code.find_source(caption_batch)})]
    assert "pipeline/captioning.py" in names
    assert "pipeline/data/images.py" in names  # imported at the top
    assert "pipeline/models/captioner.py" in names  # named under TYPE_CHECKING only: the model is handed in
    assert "pipeline/runtime.py" not in names  # says of itself that it changes no result


def test_code_must_be_named_and_must_decide_something() -> None:
    for roots in ((), (runtime,)):
        with pytest.raises(ValueError, match="must be part of the key"):
            code.hash_code(*roots)
    with pytest.raises(ValueError, match="comes from no file"):
        code.hash_code(len)


def test_an_edit_changes_the_hash_of_what_imports_it_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code.hash_stages()
    edited = code.ROOT / "pipeline" / "captioning.py"
    real = code.hash_file
    monkeypatch.setattr(code, "hash_file", lambda path: "edited" if path == edited else real(path))
    after = code.hash_stages()
    assert {name for name in before if before[name] != after[name]} == {"captioning"}


def count_instances(before: dict, after: dict) -> int:
    """Count the stage instances of the default pipeline whose hash differs."""
    changed = 0
    for name, value in before.items():
        if isinstance(value, dict):
            chosen = ["stylemoji"] if name == "dataset" else list(value)
            changed += sum(value[variant] != after[name][variant] for variant in chosen)
        else:
            changed += value != after[name]
    return changed


def test_an_edit_of_a_file_reruns_few_stages_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    closures = functools.cache(code.compute_closure)  # an edit inside of a function imports nothing new
    monkeypatch.setattr(code, "compute_closure", lambda roots: closures(frozenset(roots)))
    before = code.hash_stages()
    real, counts = functools.cache(code.hash_file), {}
    files = [path for package in code.PACKAGES for path in sorted((code.ROOT / package).rglob("*.py"))]
    for file in files:
        monkeypatch.setattr(code, "hash_file", lambda path, file=file: "edited" if path == file else real(path))
        counts[code.name_file(file)] = count_instances(before, code.hash_stages())
    assert sum(counts.values()) / len(counts) <= 6, sorted(counts.items(), key=lambda item: -item[1])[:12]


def test_who_may_say_that_it_changes_no_result() -> None:
    found = {code.name_file(path) for package in code.PACKAGES for path in (code.ROOT / package).rglob("*.py") if code.changes_no_result(path)}
    assert found == {
        "pipeline/allocator.py",
        "pipeline/checkpoints.py",
        "pipeline/cluster/connection.py",
        "pipeline/cluster/parcels.py",
        "pipeline/cluster/pool.py",
        "pipeline/cluster/sentences.py",
        "pipeline/cluster/worker.py",
        "pipeline/code.py",
        "pipeline/config.py",
        "pipeline/cost.py",
        "pipeline/endings.py",
        "pipeline/engine.py",
        "pipeline/feasibility/blocks.py",
        "pipeline/feasibility/material.py",
        "pipeline/feasibility/notes.py",
        "pipeline/feasibility/obstacles.py",
        "pipeline/files.py",
        "pipeline/forks.py",
        "pipeline/integrity/hashes.py",
        "pipeline/integrity/lock.py",
        "pipeline/gpu.py",
        "pipeline/ledger.py",
        "pipeline/locks.py",
        "pipeline/memory.py",
        "pipeline/run_progress.py",
        "pipeline/runtime.py",
        "pipeline/side_by_side.py",
        "pipeline/stage_processes.py",
        "pipeline/weight_files.py",
        "pipeline/work.py",
        "stages/inputs.py",
        "stages/server.py",
    }


def test_templates_count_for_the_modules_of_their_package(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "templates").mkdir(parents=True)
    (package / "inner").mkdir()
    for name in ("__init__.py", "page.py", "templates/page.html", "style.css", "inner/__init__.py", "inner/other.txt"):
        (package / name).write_text("x = 1\n")
    assert [path.name for path in code.list_data_files(package)] == ["style.css", "page.html"]
