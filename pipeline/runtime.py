"""How a run behaves without changing its result: device, threads, progress and log lines."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import NonNegativeInt

from pipeline.config import Count, config_dataclass
from pipeline.engine import choose_engine
from pipeline.forks import count_workers
from pipeline.gpu import explain_unusable, has_card, warn_of_unused_card
from pipeline.params import load_params
from pipeline.run_progress import describe_run_left
from pipeline.terminal import say, show

if TYPE_CHECKING:
    import torch

    from pipeline.rows import Summary

CHANGES_NO_RESULT = True
T = TypeVar("T")
LOG_SECONDS = 10.0  # between two progress lines when the output is no terminal


@config_dataclass
class RuntimeConfig:
    """Knobs that cannot change a result; no stage lists them in its DVC params."""

    device: Literal["auto", "cpu", "cuda"]
    num_threads: Count  # of one operation on a CPU
    workers: NonNegativeInt  # copies of a stage's process that compute rows on CPUs; 0: as many as keep all cores busy
    checkpoint_every: Count  # steps
    engine: Literal["local", "ray"]  # what computes maps over rows
    ray_address: str | None  # of the cluster's head, host:port; None: RAY_ADDRESS, else this machine


def load_runtime(params: Path) -> RuntimeConfig:
    """Load the `runtime` block."""
    return load_params(params, "runtime", RuntimeConfig)


def resolve_device(config: RuntimeConfig) -> torch.device:
    """Return the device to run on, set the number of CPU threads, and choose what computes maps over rows.

    ValueError if CUDA or Ray is asked for and cannot be used. Where the machine has a GPU that `auto` cannot use, one line says why.
    """
    device = find_device(config)
    on_gpu = device.type == "cuda"
    workers = 1 if on_gpu else count_workers(config.workers, config.num_threads)
    choose_engine(config.engine, config.ray_address, needs_gpu=on_gpu, workers=workers)
    return device


def find_device(config: RuntimeConfig) -> torch.device:
    """Return the device to run on, and set the number of CPU threads."""
    import torch

    torch.set_num_threads(config.num_threads)
    if config.device == "cpu":
        return torch.device("cpu")
    reason = explain_unusable()
    if reason is None:
        return torch.device("cuda")
    if config.device == "cuda":
        raise ValueError(f"runtime.device is cuda, but this machine has no usable GPU: {reason}; allowed are auto, cpu and cuda.")
    if has_card():
        warn_of_unused_card(reason)
    return torch.device("cpu")


def quieten_libraries() -> None:
    """Quieten libraries and put hub clients offline unless the user has said otherwise; they read this when they are loaded."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(name, "1")
    for name, value in (
        ("TOKENIZERS_PARALLELISM", "false"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DIFFUSERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("NO_ALBUMENTATIONS_UPDATE", "1"),
    ):
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore")


def setup_logging() -> None:
    """Quieten libraries, and print what is logged in a form that is safe to show."""
    quieten_libraries()
    handler = logging.StreamHandler()
    handler.setFormatter(ShownFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ("transformers", "diffusers", "open_clip", "timm", "PIL", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)


class ShownFormatter(logging.Formatter):
    """Formats what libraries log, which may hold other people's words: a message is one line, and hidden characters are escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Escape the message."""
        record.message = show(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """Escape what follows the message, a traceback, line by line."""
        return "\n".join(map(show, super().format(record).split("\n")))


def progress(iterable: Iterable[T], *, label: str, total: int | None = None, step: int = 1) -> Iterator[T]:
    """Yield from `iterable`, showing rate and time left: a bar on a terminal, a plain line every few seconds elsewhere.

    `total` counts units, of which every iteration finishes `step` (the last one perhaps fewer).
    """
    if sys.stderr.isatty():
        yield from _show_bar(iterable, label=label, total=total, step=step)
        return
    started = shown = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += step
        now = time.monotonic()
        if now - shown >= LOG_SECONDS:
            shown = now
            line, left = format_progress(label, done, total, now - started), estimate_left(done, total, now - started)
            say("; ".join(filter(None, [line, describe_run_left(left)])), file=sys.stderr)


def _show_bar(iterable: Iterable[T], *, label: str, total: int | None, step: int) -> Iterator[T]:
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit="row", dynamic_ncols=True, leave=False, disable=False) as bar:
        for item in iterable:
            yield item
            bar.set_postfix_str(describe_run_left(estimate_left(bar.n, total, bar.format_dict["elapsed"])), refresh=False)
            bar.update(min(step, total - bar.n) if total is not None else step)


def format_progress(label: str, done: int, total: int | None, seconds: float) -> str:
    """Return one plain progress line, e.g. `captioning: 640/1800, 21.3/s, 54 s left`."""
    rate = done / seconds if seconds > 0 else 0.0
    if total is None:
        return f"{label}: {done}, {rate:.3g}/s"
    done = min(done, total)
    left = f", {(total - done) / rate:.0f} s left" if rate else ""
    return f"{label}: {done}/{total}, {rate:.3g}/s{left}"


def estimate_left(done: int, total: int | None, seconds: float) -> float | None:
    """Return the seconds that a loop still takes, None if unknown."""
    return (max(total - done, 0) / done) * seconds if total is not None and done else None


def print_summary(stage: str, summary: Summary) -> None:
    """Print the stage's one closing line."""
    say(
        f"{stage}: {summary.rows_in} rows in, {summary.computed} computed, {summary.reused} reused, "
        f"{summary.rejected} rejected, {summary.seconds:.1f} s"
    )
