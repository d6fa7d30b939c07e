"""Which code decides a result: the hash of a module and of every project module that it imports, directly or through others.

The one answer to "did the code change?": the ledgers and checkpoints take it into their keys, and the stage `code` writes it for DVC, so the
two cannot disagree. What counts is the syntax tree: comments, docstrings and formatting do not. Imports are found in the source,
those inside of functions and under TYPE_CHECKING included, for what is only named there (a model that is handed in) decides as well.
Files that are no Python (templates) count for the modules of their package.

A module with `CHANGES_NO_RESULT = True` says of itself that it only moves, stores, measures or shows what others compute; it and
what it imports are left out.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

CHANGES_NO_RESULT = True

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "stages")
MARK = "CHANGES_NO_RESULT"
NO_STAGES = ("__init__", "entry", "inputs", "code")  # files in stages/ that are none, or hash the others
VARIANTS = {"dataset": "pipeline/data/adapters", "generation": "pipeline/generation/methods"}  # a stage loads one module of them by name


def hash_code(*roots: Any) -> str:
    """Return the sha256 (hex) of the code behind functions, classes, instances or modules; ValueError if there is none to read."""
    files = {find_source(root) for root in roots}
    if not files or all(changes_no_result(path) for path in files):
        raise ValueError("no code was named that decides a result, but it must be part of the key.")
    return hash_files(files)


def find_source(root: Any) -> Path:
    """Return the source file of a function, a class, an instance of a class, or a module."""
    import sys

    name = root.__name__ if isinstance(root, ModuleType) else getattr(root, "__module__", None) or type(root).__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or name == "builtins":
        raise ValueError(f"{root!r} comes from no file, so its code cannot be part of a key.")
    return Path(file).resolve()


def hash_stages() -> dict[str, str | dict[str, str]]:
    """Return the hash of every stage's code; of a stage that loads one of several modules, a hash for each of them by name."""
    hashes: dict[str, str | dict[str, str]] = {}
    for path in sorted((ROOT / "stages").glob("*.py")):
        if path.stem in VARIANTS:
            variants = sorted(variant.stem for variant in (ROOT / VARIANTS[path.stem]).glob("*.py"))
            hashes[path.stem] = {variant: hash_stage(path.stem, variant) for variant in variants if variant != "__init__"}
        elif path.stem not in NO_STAGES:
            hashes[path.stem] = hash_stage(path.stem)
    return hashes


def hash_stage(name: str, variant: str = "") -> str:
    """Return the hash of a stage's code, with the module that it loads by name; the instances of another stage run one code."""
    chosen = [ROOT / VARIANTS[name] / f"{variant}.py"] if variant and name in VARIANTS else []
    return hash_files({ROOT / "stages" / f"{name}.py", *chosen})


def hash_files(roots: Iterable[Path]) -> str:
    """Return the sha256 (hex) of the files, of everything that they import, and of the names by which it is imported."""
    parts = [f"{name_file(path)} {hash_file(path)}" for path in compute_closure(roots)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def compute_closure(roots: Iterable[Path]) -> list[Path]:
    """Return the sorted files that the roots need: project modules, the `__init__` files above them, and their packages' other files."""
    todo, done = list(roots), set()
    while todo:
        path = todo.pop()
        if path not in done and not changes_no_result(path):
            done.add(path)
            todo.extend(list_imports(path) - done)
    data = {file for folder in {path.parent for path in done if ROOT in path.parents} for file in list_data_files(folder)}
    return sorted(done | data, key=name_file)


def name_file(path: Path) -> str:
    """Return the path in the repository; of a file elsewhere (a test's own code) its name."""
    return path.relative_to(ROOT).as_posix() if ROOT in path.parents else path.name


@cache
def list_data_files(folder: Path) -> tuple[Path, ...]:
    """Return the files below a package's folder that are no Python and lie in no package of their own."""
    if folder == ROOT:
        return ()
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            found.extend(file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix not in (".py", ".pyc"))
        elif path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith("."):
            found.append(path)
    return tuple(found)


@cache
def parse(path: Path) -> ast.Module:
    """Parse a source file."""
    return ast.parse(path.read_bytes(), filename=str(path))


@cache
def changes_no_result(path: Path) -> bool:
    """Say whether the module declares that it cannot change a result."""
    return path.suffix == ".py" and any(
        isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == MARK for target in node.targets)
        and isinstance(node.value, ast.Constant)
        and node.value.value is True
        for node in parse(path).body
    )


@cache
def list_imports(path: Path) -> frozenset[Path]:
    """Return the project files that a module imports anywhere in it; importing a module also runs the `__init__` files above it."""
    found: set[Path] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_base(node, path)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in PACKAGES:
                found |= find_files(name)
    return frozenset(found)


def resolve_base(node: ast.ImportFrom, path: Path) -> str:
    """Return the dotted name that `from ... import` names, relative ones resolved against the file's place."""
    if node.level == 0:
        return node.module or ""
    package = path.parents[node.level - 1]
    parts = package.relative_to(ROOT).parts if ROOT in package.parents else ()
    return ".".join([*parts, *filter(None, [node.module])])


def find_files(name: str) -> set[Path]:
    """Return the file of a dotted module name and the `__init__` files above it; nothing for a name that is no module."""
    base = ROOT.joinpath(*name.split("."))
    module = next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)
    if module is None:
        return set()
    parents = {folder / "__init__.py" for folder in module.parents if ROOT in folder.parents}
    return {module} | {path for path in parents if path.is_file()}


@cache
def hash_file(path: Path) -> str:
    """Return the sha256 (hex) of a module's syntax tree without docstrings, or of another file's bytes."""
    content = path.read_bytes() if path.suffix != ".py" else "".join(write_tree(parse(path))).encode()
    return hashlib.sha256(content).hexdigest()


def write_tree(node: Any) -> Iterator[str]:
    """Write a syntax tree as text that is the same under every Python version: empty fields are left out, and so are docstrings."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        yield "("
        for name in sorted(node._fields):
            value = getattr(node, name, None)
            if name == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                value = skip_docstring(value)
            if value is not None and value != [] and name not in ("kind", "type_comment", "ctx", "type_ignores"):
                yield f"{name}="
                yield from write_tree(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from write_tree(item)
            yield ","
        yield "]"
    else:
        yield f"{type(node).__name__}:{node!r}"


def skip_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return a body without the docstring at its head."""
    first = body[0] if body else None
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1:] if is_docstring else body
