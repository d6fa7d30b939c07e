"""Rules of the repository that no single module can check. Run: python -m pytest tests/test_repo_rules.py"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from pipeline.code import list_imports
from pipeline.compose import compose_params

REPO = Path(__file__).resolve().parents[1]
DVC_YAML = REPO / "dvc.yaml"

LAYERS = (
    {
        "allocator",
        "artifacts",
        "columns",
        "checkpoints",
        "cluster",
        "code",
        "config",
        "cost",
        "doctor",
        "dvc_command",
        "endings",
        "engine",
        "files",
        "fingerprint",
        "forks",
        "gpu",
        "integrity",
        "json_files",
        "ledger",
        "locks",
        "memory",
        "override_errors",
        "overrides",
        "params",
        "platforms",
        "randomness",
        "rows",
        "run_progress",
        "runtime",
        "schemas",
        "side_by_side",
        "spreadsheets",
        "stage_processes",
        "table_images",
        "terminal",
        "training",
        "training_run",
        "vectors",
        "weight_files",
        "work",
        "yaml_files",
    },
    {"data", "models", "metrics"},
    {"captioning", "embedding", "latents", "retrieval", "keywords", "preference", "ranker", "ranker_check"},
    {"conditioning", "baselines", "looks"},
    {"reflection"},
    {"generation"},
    {"evaluation", "report"},
    {"feasibility"},
    {"draw"},  # calls what the stages call
    {"demo", "study"},  # read a finished run as draw does
    {"choice", "replaced_tables"},
    {"compose"},  # checks every block against the config that owns it
    {"use"},
)
READERS = {  # what reads people's files, and what else calls the same function for other bytes
    "Image.open": {"pipeline/data/images.py"},
    "csv.reader": {"pipeline/data/csv_files.py"},
    "csv.DictReader": {"pipeline/spreadsheets.py"},  # what we wrote ourselves
    "pl.scan_csv": {"pipeline/data/adapters/ml_latest.py"},  # the 33 million lines of MovieLens' official ratings
    "pq.ParquetFile": {"pipeline/data/parquet_files.py", *(f"pipeline/{name}.py" for name in ("artifacts", "ledger", "table_images"))},  # our tables
    "json.loads": {
        "pipeline/json_files.py",
        "pipeline/artifacts.py",  # our tables' own metadata
        "pipeline/integrity/verify.py",  # DVC's list of running commands
        "pipeline/keywords/parse.py",  # a reply
        "pipeline/weight_files.py",  # a header of bounded length
    },
    "yaml.load": {"pipeline/yaml_files.py", "pipeline/integrity/lock.py", "pipeline/integrity/cache.py"},  # the last two: DVC's own files
    "pickle.loads": {"pipeline/cluster/pool.py", "pipeline/forks.py"},  # our own workers' answers
    "np.lib.format.read_array": {"pipeline/data/npy.py"},
}
READING = re.compile(
    r"(Image|csv|pl|polars|pd|pandas|pa_csv|pq|json|yaml|pickle|np|np\.lib\.format)\.(open|reader|DictReader|ParquetFile|read_array|parse_all|"
    r"(read|scan)_(csv|excel|json|ndjson|parquet|table)|(safe_|full_|unsafe_)?load(s|_all|txt)?|fromfile|genfromtxt)"
)
HEAVY = {"transformers", "diffusers", "open_clip", "timm"}


def list_sources(folder: str) -> list[Path]:
    return sorted((REPO / folder).rglob("*.py"))


def find_layer(path: Path) -> tuple[int, str] | None:
    name = path.relative_to(REPO / "pipeline").parts[0].removesuffix(".py")
    return next(((i, name) for i, layer in enumerate(LAYERS) if name in layer), None)


@pytest.mark.parametrize("path", list_sources("pipeline"), ids=lambda p: p.relative_to(REPO).as_posix())
def test_a_module_imports_only_lower_layers_and_its_own_room(path: Path) -> None:
    if path == REPO / "pipeline" / "__init__.py":
        return
    layer, room = find_layer(path)
    for imported in list_imports(path):
        assert imported.parts[len(REPO.parts)] == "pipeline", f"{path} imports {imported}"
        if imported == REPO / "pipeline" / "__init__.py":
            continue
        other_layer, other_room = find_layer(imported)
        siblings = layer == other_layer and layer in (0, 1)
        assert other_room == room or other_layer < layer or siblings, f"{path.name} ({room}) imports {imported.name} ({other_room})"


def test_each_kind_of_file_that_people_make_is_read_in_one_place() -> None:
    found: dict[str, set[str]] = {}
    for path in [source for folder in ("pipeline", "stages", "experiments") for source in list_sources(folder)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and READING.fullmatch(name := ast.unparse(node.func)):
                found.setdefault(name, set()).add(path.relative_to(REPO).as_posix())
    assert found == READERS


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    weights = (REPO / "requirements-weights.in").read_text(encoding="utf-8").split()
    declared = {re.split(r"[^\w.-]", line)[0] for line in [*project["dependencies"], *weights]}
    extras = {name: {re.split(r"[^\w.-]", line)[0] for line in lines} for name, lines in project["optional-dependencies"].items()}
    sources = metadata.packages_distributions()
    folders = {"pipeline", "stages", "experiments", "embedded", "tests"}
    own = folders | {path.stem for path in (REPO / "tests" / "offline").glob("*.py")}  # a folder of PYTHONPATH
    for folder in folders:
        for path in (REPO / folder).rglob("*.py"):
            own_extra = next((extras[room] for room in ("demo", "cluster") if REPO / folder / room in path.parents), set())
            extra = extras["dev"] | extras["benchmark"] | extras["cluster"] if folder == "tests" else own_extra
            allowed = {normalise(name) for name in declared | extra}
            for name in list_packages(path) - own - set(sys.stdlib_module_names):
                assert allowed & {normalise(source) for source in sources.get(name, [name])}, f"{path}: {name} is not in pyproject.toml"


def list_packages(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}}


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_stages_do_not_import_each_other() -> None:
    for path in list_sources("stages"):
        others = {p.name for p in list_imports(path) if p.parent.name == "stages"} - {"entry.py", "inputs.py", "__init__.py"}
        assert not others, f"{path.name} imports {others}"


@pytest.mark.parametrize("path", list_sources("pipeline") + list_sources("stages"), ids=lambda p: p.relative_to(REPO).as_posix())
def test_every_module_has_a_docstring_and_heavy_imports_are_late(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not tree.body:
        return
    assert ast.get_docstring(tree), f"{path} has no docstring"
    top = {name.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for name in node.names}
    top |= {node.module.split(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    assert not top & HEAVY or "models" in path.parts, f"{path} imports {top & HEAVY} at its top"


def test_stage_params_block_and_file_share_their_name() -> None:
    stages = yaml.safe_load(DVC_YAML.read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        definition = stage.get("do", stage)
        assert (REPO / "stages" / f"{name}.py").is_file()
        assert f"-m stages.{name} " in definition["cmd"]
        if name == "code":  # it reads no params
            continue
        assert any(param == name or str(param).startswith(f"{name}.") for param in definition["params"]), name
        for out in definition["outs"]:
            path = out if isinstance(out, str) else next(iter(out))
            assert path.startswith(f"data/{name}/"), path
        assert not any(str(param).startswith("runtime") for param in definition["params"]), name


def test_params_yaml_is_the_composed_default(tmp_path: Path) -> None:
    compose_params([], conf=REPO / "conf", out=tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_text() == (REPO / "params.yaml").read_text(), "run `make params`"


@pytest.mark.parametrize("path", sorted((REPO / "conf").rglob("*.yaml")), ids=lambda p: p.relative_to(REPO).as_posix())
def test_every_param_has_a_comment_with_its_unit_or_source(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        is_value = re.match(r"^\s*[a-z_]+: *[^ #]", line) and not line.strip().startswith(("defaults:", "name:", "protocol: themes"))
        assert not is_value or "#" in line, f"{path.name}: no comment: {line}"


def test_the_readmes_map_names_every_file_of_the_library() -> None:
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    for path in [*list_sources("pipeline"), *list_sources("stages")]:
        if path.stat().st_size and path.name != "__init__.py":
            assert path.name in readme, f"README's map lacks {path.relative_to(REPO)}"
