"""`python -m stages.server FD`: a process from which the processes of stages are forked, with the large packages already loaded.

torch, diffusers and transformers take 2 to 6 seconds of a processor to import, in each of some twenty stages of a run. Our launcher of DVC
(`pipeline/dvc_command.py`) therefore has stages forked here. The first stage that needs a package loads it itself and says so; before the next stage
it is loaded here too, once for all that follow. Our own code is never kept: every stage imports it anew, so an edit during a run is seen.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import runpy
import sys
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection

from pipeline.allocator import keep_freed_memory

CHANGES_NO_RESULT = True
# In this order, dependencies first; none that starts threads which a fork would lose (polars).
PACKAGES = (
    "pandas",  # which pyarrow loads wherever it is installed
    "pyarrow.parquet",
    "typer",
    "torch",
    "torch._dynamo",
    "torchvision",
    "scipy.stats",
    "transformers.modeling_utils",
    "peft",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "timm",
    "open_clip",
)
OURS = ("pipeline", "stages")
MOST = 4096  # bytes of a report, which fits into a pipe


def serve(connection: Connection) -> tuple[int, tuple[str, list[str], str, dict[str, str]]]:
    """Fork a process for every request, and answer with its id and then with its exit code; ends with the launcher.

    Returns in the forked processes alone: where to report what they have loaded, and the request (module, arguments, folder, environment).
    """
    keep_freed_memory()  # a package may make a tensor as it is loaded
    known: list[str] = []
    while True:
        try:
            request = connection.recv()
        except EOFError:
            os._exit(0)
        load(known)
        gc.freeze()  # else the first search for garbage in a child would copy all memory that it shares
        source, sink = os.pipe()
        child = os.fork()
        if not child:
            connection.close()
            os.close(source)
            return sink, request
        os.close(sink)
        connection.send(child)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        known = read_report(source)
        with contextlib.suppress(OSError):
            connection.send(code)


def read_report(source: int) -> list[str]:
    """Return the packages that a process which has ended had loaded; none if it was killed."""
    os.set_blocking(source, False)  # a process that it has left behind may hold the other end open
    try:
        return os.read(source, MOST).decode().split()
    except BlockingIOError:
        return []
    finally:
        os.close(source)


def load(packages: Iterable[str]) -> None:
    """Import packages; a stage says itself what is wrong with one that cannot be."""
    missing = [name for name in packages if name not in sys.modules]
    if missing:
        from pipeline.runtime import quieten_libraries

        quieten_libraries()
    for name in missing:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def report_packages(sink: int) -> None:
    """Write which of the large packages this process has loaded."""
    os.write(sink, " ".join(name for name in PACKAGES if name in sys.modules).encode())


def run(sink: int, module: str, arguments: list[str], folder: str, env: Mapping[str, str]) -> None:
    """Become the process that `python -m module ...` would be."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = ["-m", *arguments]
    atexit.register(report_packages, sink)
    atexit.register(gc.unfreeze)  # what is frozen at the end of a process, libraries report as leaked
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    where, asked = serve(Connection(int(sys.argv[1])))
    run(where, *asked)
