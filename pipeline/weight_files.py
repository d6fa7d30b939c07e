"""What is wrong with a folder of weights, in a sentence: half a download, pointers in place of files, missing shards, files that are cut off.

Libraries answer these with `HeaderTooLarge`, or with the name of one file that they would have liked to find.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from pipeline.json_files import read_json

CHANGES_NO_RESULT = True
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".ckpt", ".msgpack", ".h5")
MAX_HEADER_BYTES = 100_000_000  # of a safetensors file; its library allows no more
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
    weights = [path for path in files if path.suffix in WEIGHTS]
    for path in weights:
        if is_pointer(path):
            yield f"{path} is a Git LFS pointer and not the weights; `git lfs install` and `git lfs pull` in that folder fetch them"
        elif path.stat().st_size == 0:
            yield f"{path} is empty; download it again"
        elif path.suffix == ".safetensors" and (fault := find_cut(path)):
            yield f"{path} {fault}; download it again"
    for path in files:
        if path.name.endswith(".index.json") and (missing := list_missing_shards(path)):
            yield f"{len(missing)} of the parts that {path.name} lists are missing, the first is {path.parent / missing[0]}; download them too"
    if not weights:
        yield f"{folder} holds no weights ({', '.join(WEIGHTS[:4])}); download the model again"


def is_pointer(path: Path) -> bool:
    """Say whether git has put a pointer in the file's place, as it does where Git LFS is not installed."""
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


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
    return sorted(name for name in names if not (index.parent / name).is_file())


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
