"""How busy the GPU is while something runs, by what nvidia-smi says a few times a second."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

COMMAND = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200", "--id=0"]


class Watch:
    """The mean of the samples, in percent; None where there are none."""

    percent: float | None = None


@contextlib.contextmanager
def watch_gpu(command: list[str] = COMMAND) -> Iterator[Watch]:
    """Sample until the context ends."""
    watch = Watch()
    if shutil.which(command[0]) is None:
        yield watch
        return
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield watch
        finally:
            process.terminate()
            output = process.communicate()[0]
    samples = [float(line) for line in output.split() if line.isdigit()]
    watch.percent = sum(samples) / len(samples) if samples else None
