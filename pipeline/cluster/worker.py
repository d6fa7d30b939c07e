"""A worker: a process on some node of the cluster that computes batches as the driver itself would."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster.parcels import Unpacker
from pipeline.code import hash_stages
from pipeline.endings import explain
from pipeline.fingerprint import compute_fingerprint

CHANGES_NO_RESULT = True
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setting:
    """What a worker takes over from the driver, so that it computes the same bytes."""

    folder: str  # that relative paths start from
    sources: str  # hash of the project's files
    code: str  # hash of what they say, for where the files differ
    num_threads: int | None  # None: the driver has not loaded torch
    stage: str


@dataclass(frozen=True)
class Job:
    """What all batches of a map share; it names stored bytes, which a worker fetches once."""

    number: int
    parcel: Any
    stored: Mapping[int, Any]


@dataclass(frozen=True)
class Failure:
    """Why a batch could not be computed: a sentence for what the world has caused, the traceback of an error of our own code."""

    node: str
    sentence: str | None
    summary: str
    traceback: str


class Worker:
    """Computes one batch at a time; a model is loaded when it is first needed, and kept."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._unpacker: Unpacker | None = None
        self._map: tuple[int, Any] = (-1, None)

    def enter(self) -> str | None:
        """Become like the driver; return why that cannot be, as a sentence."""
        try:
            os.chdir(self._setting.folder)
        except OSError as error:
            return f"{self._setting.folder}: {error.strerror}; the project's folder must be there on every node (docs/cluster.md)."
        if hash_sources() != self._setting.sources and hash_meaning() != self._setting.code:
            return f"{ROOT} holds other code than the driver's; all nodes need the same project, best on a shared disk (docs/cluster.md)."
        return self._load_libraries()

    def _load_libraries(self) -> str | None:
        import ray

        try:
            from pipeline.allocator import keep_freed_memory
            from pipeline.runtime import setup_logging

            setup_logging()
            keep_freed_memory()
            if self._setting.num_threads is not None:
                import torch

                torch.set_num_threads(self._setting.num_threads)
        except ImportError as error:
            return explain(error) or str(error)
        self._unpacker = Unpacker(ray.get)
        return None

    def compute(self, job: Job, rows: bytes) -> bytes:
        """Compute a batch and return the pickled outcomes, or a pickled Failure."""
        import ray

        assert self._unpacker is not None, "a worker enters before it computes"
        try:
            if self._map[0] != job.number:
                self._map = (-1, None)  # frees what the last map needed
                self._map = (job.number, self._unpacker.unpack(ray.get(job.parcel), job.stored))
            return pickle.dumps(self._map[1](self._unpacker.unpack(rows, job.stored)), protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            summary = " ".join(f"{type(error).__name__}: {error}".split())
            return pickle.dumps(Failure(socket.gethostname(), explain(error, stage=self._setting.stage), summary, traceback.format_exc()))


def hash_meaning() -> str:
    """Return a hash of the code that decides results: what a worker computes is kept under the key of the driver's code."""
    return compute_fingerprint(hash_stages())


def hash_sources() -> str:
    """Return a hash of the project's files, which is quick: where they are equal, so is the code."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in ("pipeline", "stages") for path in (ROOT / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT).as_posix()} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
