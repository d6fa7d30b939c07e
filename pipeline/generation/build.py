"""Build a method by name: a new method is one new file in `pipeline/generation/methods/`, one line in conf/comparison/ and one in dvc.yaml."""

from __future__ import annotations

import importlib
import pkgutil

from pipeline.generation import methods
from pipeline.generation.context import GenerationContext, Method


def build_method(name: str, context: GenerationContext) -> Method:
    """Build the method `name`; ValueError names the choices."""
    if name not in list_methods():
        raise ValueError(f"method is {name!r}, but it must be one of: {', '.join(list_methods())}.")
    return importlib.import_module(f"{methods.__name__}.{name}").build_method(context)


def list_methods() -> list[str]:
    """Return the names of all methods, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(methods.__path__))
