"""Which project files each stage imports, directly or through others; `python -m tests.import_closure --write` puts them into dvc.yaml.

DVC does not follow Python imports, so `deps` must list them all. In dvc.yaml a stage's code deps are the lines between its
`# code` comment and the next line that is no project file.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "stages")
DVC_YAML = REPO / "dvc.yaml"
MARKER = "# code"


def list_imports(path: Path) -> set[Path]:
    """Return the project files that `path` imports anywhere in it; importing a module also runs its packages' __init__ files."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in PACKAGES:
                found |= find_files(name)
    return found


def find_files(name: str) -> set[Path]:
    """Return the file of a dotted module name and the __init__ files above it; nothing for a name that is no module."""
    base = REPO.joinpath(*name.split("."))
    module = next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
    if module is None:
        return set()
    parents = {folder / "__init__.py" for folder in module.parents if folder != REPO and REPO in folder.parents}
    return {module} | {p for p in parents if p.is_file() and p.stat().st_size > 0}


def compute_closure(stage_file: Path) -> list[str]:
    """Return the sorted repository paths of `stage_file` and everything in the project that it imports."""
    todo, done = [stage_file], set()
    while todo:
        path = todo.pop()
        if path not in done:
            done.add(path)
            todo.extend(list_imports(path) - done)
    return sorted(path.relative_to(REPO).as_posix() for path in done if path.stat().st_size > 0)


def write_deps(text: str) -> str:
    """Return dvc.yaml's text with the code deps of every stage replaced by its import closure."""
    lines, stage = [], ""
    skipping = False
    for line in text.splitlines():
        if line.startswith("  ") and not line.startswith("   ") and line.rstrip().endswith(":"):
            stage = line.strip().rstrip(":")
        if skipping and line.strip().startswith(tuple(f"- {package}/" for package in PACKAGES)):
            continue
        skipping = False
        lines.append(line)
        if line.strip() == MARKER:
            skipping = True
            indent = line[: len(line) - len(line.lstrip())]
            lines.extend(f"{indent}- {path}" for path in compute_closure(REPO / "stages" / f"{stage}.py"))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    new = write_deps(DVC_YAML.read_text(encoding="utf-8"))
    if "--write" in sys.argv:
        DVC_YAML.write_text(new, encoding="utf-8")
    else:
        print(new, end="")
