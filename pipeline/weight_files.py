"""What is wrong with a folder of weights, in a sentence: half a download, pointers in place of files, missing shards, files that are cut off.

Libraries answer these with `HeaderTooLarge`, or with the name of one file that they would have liked to find.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from pipeline.json_files import read_json

CHANGES_NO_RESULT = True
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".ckpt", ".msgpack", ".h5")
LOADED = WEIGHTS[:4]  # the others are for other programs
CONFIGS = ("config.json", "model_index.json", "open_clip_config.json")
SAVED_BY_TORCH = re.compile(r"(diffusion_|open_clip_)?pytorch_model(-\d+-of-\d+)?\.bin")
# what a model says of itself in its config, and the module without which it cannot be loaded
QUANTIZED = {
    "gptq": "gptqmodel", "awq": "gptqmodel", "bitsandbytes": "bitsandbytes", "aqlm": "aqlm", "hqq": "hqq", "eetq": "eetq", "quanto": "optimum",
    "torchao": "torchao", "compressed-tensors": "compressed_tensors",
}  # fmt: skip
MAX_HEADER_BYTES = 100_000_000  # of a safetensors file; its library allows no more
MAX_POINTER = 1000  # bytes
POINTER = b"version https://git-lfs.github.com/spec/"
VARIANT = re.compile(r"(?P<stem>.+?)\.(?P<variant>[A-Za-z][A-Za-z0-9_]*?)(?P<shard>-\d{5}-of-\d{5})?\.(safetensors|bin)")


def find_problem(folder: Path) -> str | None:
    """Return what is wrong with the weights below a folder and what to do; None if nothing is found."""
    return next(list_problems(folder), None)


def list_problems(folder: Path) -> Iterator[str]:
    """Yield what is wrong, the cause before its consequences."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        if path.suffix in (".incomplete", ".part", ".crdownload", ".aria2"):
            yield f"{path} is a download that was not finished; download the model again"
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.exists():
            yield f"{path} is a link to a file that is gone; download the model again"
    if fault := find_misplaced(folder):
        yield fault
    weights = [path for path in files if path.suffix in WEIGHTS]
    for path in [*weights, *(path for path in files if path.suffix not in WEIGHTS and path.stat().st_size < MAX_POINTER)]:
        if is_pointer(path):
            what = "the weights" if path in weights else "the file"
            yield f"{path} is a Git LFS pointer and not {what}; `git lfs install` and `git lfs pull` in that folder fetch them"
        elif path not in weights:
            continue
        elif path.stat().st_size == 0:
            yield f"{path} is empty; download it again"
        elif path.suffix == ".safetensors" and (fault := find_cut(path)):
            yield f"{path} {fault}; download it again"
        elif path.suffix != ".safetensors" and read_head(path).lstrip()[:1] in (b"<", b"{"):
            yield f"{path} is a web page or a message and not the weights; download it again, signed in if it asks for that"
        elif SAVED_BY_TORCH.fullmatch(path.name) and read_head(path).startswith(b"PK") and not zipfile.is_zipfile(path):
            yield f"{path} is cut off; download it again"
    for path in files:
        if path.name.endswith(".index.json") and (missing := list_missing_shards(path)):
            yield f"{len(missing)} of the parts that {path.name} lists are missing, the first is {path.parent / missing[0]}; download them too"
    if not weights:
        yield f"{folder} holds no weights ({', '.join(LOADED)}); download the model again"
    elif not any(path.suffix in LOADED for path in weights):
        yield f"{folder} holds its weights as {weights[0].suffix} alone, which is for other programs; take a copy of the model as safetensors"


def find_misplaced(folder: Path) -> str | None:
    """Say what a folder is instead of a model's: one above it, an adapter, or weights that need a package which is not there; None if it is none."""
    if not any((folder / name).exists() for name in CONFIGS):
        if (folder / "adapter_config.json").exists():
            return f"{folder} holds an adapter (LoRA) and not a model; merge it into its base model and name that folder"
        below = sorted({path.parent for name in CONFIGS[:2] for path in [*folder.glob(f"*/{name}"), *folder.glob(f"snapshots/*/{name}")]})
        if len(below) == 1 and not any(path.suffix in WEIGHTS for path in folder.iterdir()):
            return f"{folder} holds no model itself; did you mean {below[0]}?"
    method = read_quantization(folder / "config.json")
    module = QUANTIZED.get(method)
    if module and find_spec(module) is None:
        return f"{folder} holds quantized weights ({method}), for which the package {module} is not installed; take the model that is not quantized"
    return None


def read_quantization(config: Path) -> str:
    """Return how a model's config says that it is quantized; empty if it is not, or cannot be read."""
    try:
        return str(read_json(config)["quantization_config"]["quant_method"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def is_pointer(path: Path) -> bool:
    """Say whether git has put a pointer in the file's place, as it does where Git LFS is not installed."""
    return read_head(path) == POINTER


def read_head(path: Path) -> bytes:
    """Return a file's first bytes."""
    with path.open("rb") as file:
        return file.read(len(POINTER))


def find_cut(path: Path) -> str | None:
    """Say how a safetensors file differs from the size that its header gives; None if it does not."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > min(size - 8, MAX_HEADER_BYTES):
            return "is cut off or no safetensors file"
        try:
            header = json.loads(file.read(length))
            wanted = 8 + length + max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # the last: nested too deeply
            return "is no safetensors file"
    return f"is cut off: it has {size:,} of {wanted:,} bytes" if size < wanted else None


def list_missing_shards(index: Path) -> list[str]:
    """Return the files that an index of sharded weights names and that are not beside it."""
    try:
        names = set(read_json(index)["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return sorted(str(name) for name in names if not (index.parent / str(name)).is_file())


def find_variant(folder: Path) -> str | None:
    """Return the variant, such as `fp16`, of a folder in which some weights are there in it alone; None if the plain files are all there.

    The libraries look for plain names unless they are told of a variant.
    """
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix in (".safetensors", ".bin")}
    for name in sorted(names):
        match = VARIANT.fullmatch(name)
        if match and not any(other.startswith((f"{match['stem']}.safetensors", f"{match['stem']}-0", f"{match['stem']}.bin")) for other in names):
            return match["variant"]
    return None
