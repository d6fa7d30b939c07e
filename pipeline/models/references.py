"""How a model is named in the params: a folder, a hub id with an optional `@commit`, or an open_clip name; and its number format."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from pipeline.memory import is_out_of_memory
from pipeline.params import read_section
from pipeline.weight_files import find_problem, find_variant

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# of files that are not what they should be
KNOWN = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError, SafetensorError, pickle.UnpicklingError)
# What transformers is told of every model: report what is missing or does not fit, for `check_loaded`, and run no code that comes with weights.
NO_CODE = {"trust_remote_code": False}
CHECKED = {**NO_CODE, "output_loading_info": True, "ignore_mismatched_sizes": True}


def read_reference(params: Path, role: str) -> str:
    """Read the reference of the model with the given role, such as `captioner`, from the params' `models` block."""
    reference = read_section(params, f"models.{role}")
    if not isinstance(reference, str) or not reference:
        raise ValueError(f"{params}: models.{role} is {reference!r}, but it must name a model: a folder, a hub id or embedded/<name>.")
    return reference


def split_revision(reference: str) -> tuple[str, str | None]:
    """Split `org/name@commit` into hub id and commit; without `@`, and for a folder whatever it is called, the commit is None."""
    if is_path(reference):
        return reference, None
    name, separator, revision = reference.rpartition("@")
    return (name, revision) if separator and "/" not in revision else (reference, None)


def is_path(reference: str) -> bool:
    """Say whether a reference is a folder, or written as one that is not there."""
    return Path(reference).is_dir() or reference.startswith(("/", "./", "../", "~"))


def choose_variant(reference: str) -> dict[str, str]:
    """Return what `from_pretrained` must be told of a model whose weights are there in a variant alone, such as `model.fp16.safetensors`."""
    folder = locate_weights(reference)
    variant = find_variant(folder) if folder and folder.is_dir() else None
    return {"variant": variant} if variant else {}


def locate_weights(reference: str) -> Path | None:
    """Return the folder of a reference's files: itself, or the hub's copy on this machine; None if there is none."""
    if is_path(reference):
        return Path(reference)
    from huggingface_hub import snapshot_download

    name, revision = split_revision(reference.removeprefix("hf-hub:"))
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError):  # the hub's own errors are of these kinds
        return None


def parse_dtype(name: object, device: torch.device) -> torch.dtype:
    """Return the number format called `name`; on a CPU it is always float32, where half formats are slow or missing."""
    if name not in DTYPES:
        raise ValueError(f"models.dtype is {name!r}, but it must be one of: {', '.join(DTYPES)}.")
    return torch.float32 if device.type == "cpu" else DTYPES[str(name)]


def check_loaded(report: dict) -> None:
    """Raise ValueError if weights were missing or did not fit: transformers would only warn and leave them random."""
    missing = sorted([*report["missing_keys"], *(entry if isinstance(entry, str) else entry[0] for entry in report["mismatched_keys"])])
    if missing:
        raise ValueError(f"{len(missing)} of its weights are missing or do not fit, the first is {missing[0]}")


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError if a tokenizer reads nothing: without its files transformers makes an empty one."""
    if not tokenizer("a picture of a dress", add_special_tokens=False)["input_ids"]:
        raise ValueError("the files of its tokenizer are missing (tokenizer.json, or those that it is made of)")


@contextlib.contextmanager
def explain_load_error(role: str, reference: str) -> Iterator[None]:
    """Turn what libraries raise while loading a model into one sentence that names it, and what is wrong with its files if that can be seen."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        is_ours = type(error) is ValueError and "Unrecognized model" not in str(error)  # ours says more than the files can
        problem = None if is_ours else find_file_problem(reference)
        if problem is None and not isinstance(error, KNOWN):
            raise
        raise ValueError(f"The {role} {reference!r} cannot be loaded: {problem or quote_library(reference, error)}.") from error


def find_file_problem(reference: str) -> str | None:
    """Return why a model's files cannot be loaded, as far as that can be seen without a library; None if nothing is found."""
    folder = locate_weights(reference)
    if folder is None:
        return None
    if not folder.is_dir():
        return "that is a file; name the folder of the model" if folder.is_file() else "there is no such folder"
    if (problem := find_problem(folder)) is None and (variant := find_variant(folder)):
        return f"its weights are there as the variant {variant} alone; name the files without .{variant}"
    return problem


def quote_library(reference: str, error: Exception) -> str:
    """Return the first line of what a library says, and what to do about a hub model."""
    if isinstance(error, pickle.UnpicklingError):
        return "one of its files is no weights but a pickle that asks for more, and is not opened; take the model's safetensors"
    if isinstance(error, ImportError):
        return f"it needs a package that is not part of the locked ones ({' '.join(str(error).split()).rstrip('.')}); take another model"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    text = (
        first if isinstance(error, OSError | RuntimeError | ValueError) else f"its files are not what is expected ({type(error).__name__}: {first})"
    )
    return text if is_path(reference) else f"{text}. A hub model must be downloaded once with HF_HUB_OFFLINE=0"
