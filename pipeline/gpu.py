"""Can the GPU be used, and if not, why: no card, no driver, a driver that is too old, a build of torch without CUDA, or a hidden card."""

from __future__ import annotations

import os
import sys
import warnings
from functools import cache
from pathlib import Path

from pipeline.terminal import say

CHANGES_NO_RESULT = True
NVIDIA = "0x10de"  # its number as a maker of PCI cards
DISPLAY_CLASSES = ("0x0300", "0x0302")  # of graphics cards and 3D controllers; an audio chip on the card is neither


@cache
def explain_unusable() -> str | None:
    """Return None if torch can compute on the GPU, else the reason and what to do; asked once a process, for the driver is."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA; `make setup` installs the build with it"
    if "CUDA_VISIBLE_DEVICES" in os.environ and is_hidden(os.environ["CUDA_VISIBLE_DEVICES"]):
        return f"CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r} and hides every GPU; unset it, or set it to 0"
    with warnings.catch_warnings(record=True) as caught:  # torch says only there that a driver is too old
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        return explain_driver(" ".join(str(warning.message) for warning in caught), built_for=torch.version.cuda)
    capability = torch.cuda.get_device_capability()
    if not is_compiled_for(capability, torch.cuda.get_arch_list()):
        return f"the GPU's generation (sm_{capability[0]}{capability[1]}) is not one that this build of torch is compiled for"
    return None


def explain_driver(said: str, *, built_for: str, root: Path = Path("/")) -> str:
    """Return why a build with CUDA finds no GPU, from what torch has said and what the system shows."""
    if "too old" in said or "insufficient" in said:
        return f"the NVIDIA driver is older than CUDA {built_for}, for which torch is built; update the driver"
    if not list((root / "dev").glob("nvidia[0-9]*")) and not (root / "dev" / "dxg").exists():
        if (root / "proc" / "driver" / "nvidia" / "version").exists():
            return "the driver is loaded, but there is no /dev/nvidia0; start the container with its GPUs (`--gpus all`), or load nvidia-uvm"
        if has_card(root):
            return "there is an NVIDIA card, but no driver; install the NVIDIA driver, or start the container with its GPUs (`--gpus all`)"
        return "there is no NVIDIA card"
    return f"CUDA does not start ({said.split('(Triggered')[0].strip().rstrip('.') or 'without a reason'}); does `nvidia-smi` list the card?"


def is_hidden(visible: str) -> bool:
    """Say whether CUDA_VISIBLE_DEVICES names no card: CUDA stops at the first number that is none."""
    first = visible.split(",")[0].strip()
    return not first or first.startswith("-") or first.lower() in ("none", "void", "nodevfiles")


def is_compiled_for(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Say whether kernels exist for a card: of its own generation and no later one, or as source for any later one."""
    for name in architectures:
        kind, _, digits = name.partition("_")
        number = "".join(filter(str.isdigit, digits))
        major, minor = int(number[:-1]), int(number[-1])
        if (kind == "sm" and major == capability[0] and minor <= capability[1]) or (kind == "compute" and (major, minor) <= capability):
            return True
    return not architectures


def has_card(root: Path = Path("/")) -> bool:
    """Say whether the machine has an NVIDIA card or its driver, usable or not."""
    if list((root / "dev").glob("nvidia[0-9]*")) or (root / "proc" / "driver" / "nvidia" / "version").exists():
        return True
    cards = (root / "sys" / "bus" / "pci" / "devices").glob("*/vendor")
    return any(read_word(path) == NVIDIA and read_word(path.with_name("class")).startswith(DISPLAY_CLASSES) for path in cards)


def read_word(path: Path) -> str:
    """Return a system file's content; empty if it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


@cache
def warn_of_unused_card(reason: str) -> None:
    """Say once a process, on stderr, that the machine's GPU stays idle."""
    say(f"WARNING: the GPU is not used, everything runs on the CPU: {reason}.", file=sys.stderr)
