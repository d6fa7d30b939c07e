"""Record which project modules run while a row is computed or a training step taken, beside those that are part of its key.

It wraps the three functions that keys go through as soon as their modules are imported, and writes a JSON line per map or training into the
file that KEY_TRACE names: its name, how many modules ran, and which of them decide a result without being part of the key.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

opened: list[tuple[str, tuple[Any, ...]]] = []  # names and code of the ledgers and checkpoints that are open


def trace(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function that computes what is kept under the key that was opened last."""

    def traced(*args: Any, **options: Any) -> Any:
        name, roots = opened[-1]
        ran: set[str] = set()
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, arg: ran.add(frame.f_code.co_filename) if event == "call" else None)
        try:
            return compute(*args, **options)
        finally:
            sys.setprofile(before)
            report(name, roots, ran)

    return traced


def report(name: str, roots: tuple[Any, ...], ran: set[str]) -> None:
    """Write what ran."""
    from pipeline import code

    closure = set(code.compute_closure({code.find_source(root) for root in roots}))
    own = {Path(file) for file in ran if Path(file).is_relative_to(code.ROOT / "pipeline")}
    missing = sorted(code.name_file(path) for path in own - closure if not code.changes_no_result(path))
    with open(os.environ["KEY_TRACE"], "a", encoding="utf-8") as file:
        file.write(json.dumps({"name": name, "ran": len(own), "missing": missing}) + "\n")


def patch_work(module: Any) -> None:
    whole = module.open_work

    @contextlib.contextmanager
    def open_work(name: str, *, code: Any, inputs: object) -> Iterator[Path]:
        with whole(name, code=code, inputs=inputs) as folder:
            opened.append((name, tuple(code)))
            try:
                yield folder
            finally:
                opened.pop()

    module.open_work = open_work


def patch_rows(module: Any) -> None:
    whole = module.map_rows
    module.map_rows = lambda ledger, rows, compute, **options: whole(ledger, rows, trace(compute), **options)


def patch_training(module: Any) -> None:
    whole = module.run_training

    def run_training(training: Any, *args: Any, **options: Any) -> Any:
        training.take_step, training.validate = trace(training.take_step), trace(training.validate)
        return whole(training, *args, **options)

    module.run_training = run_training


PATCHES = {"pipeline.work": patch_work, "pipeline.rows": patch_rows, "pipeline.training": patch_training}


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules as usual and patches them when they have been loaded."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in PATCHES:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        whole = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            whole(module)
            PATCHES[name](module)

        spec.loader.exec_module = exec_module
        return spec


def install() -> None:
    """Trace this process, if it is asked for."""
    if os.environ.get("KEY_TRACE"):
        sys.meta_path.insert(0, Finder())
