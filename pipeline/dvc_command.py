"""`python -m pipeline.dvc_command repro [STAGE ...]`: DVC's command line, of which Ctrl-C leaves one line.

DVC itself waits for as long as a stage likes and prints errors of its own, and Python a traceback if it was still importing. Here a stage
gets Ctrl-C only once it can answer (see `run_command`), has two seconds to end, and the last line is ours. And a stage is forked from a process
that keeps large packages loaded (`pipeline/stage_processes.py`).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, TextIO

from pipeline.endings import LAUNCHED, Stopped, run_command
from pipeline.memory import take_killed
from pipeline.stage_processes import Process, fork_stage, is_stage, stop_servers

KEPT = "finished rows and checkpoints are kept, run the same command again and it goes on from there"
GRACE = 1.2  # seconds that a stage has to end after Ctrl-C
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PLAIN = re.compile(r"\s*[\w./-]+(?:\s+[\w./:,@%+=-]+)*\s*")  # a command without anything that means something to a shell
written: dict[str, str] = {}  # a stage's lines of dvc.lock, by its name and entry
ENDED_BY = {128 + number: number for number in SIGNALS} | {-number: number for number in SIGNALS}  # by exit code


def run_dvc(arguments: Sequence[str]) -> int:
    """Run DVC's command line in this process and return its exit code; Stopped if it or a stage was interrupted."""
    import dvc.dvcfile
    import dvc.stage.run
    from dvc.cli import main

    dvc.stage.run._run = run_stage
    dvc.dvcfile.modify_yaml = modify_lock
    try:
        return main(list(arguments))
    finally:
        stop_servers()


@contextlib.contextmanager
def modify_lock(path: str, fs: Any = None) -> Iterator[Any]:
    """Modify a YAML file, in the place of DVC's own function, which takes seconds a run to keep the comments that a dvc.lock does not have."""
    from dvc.utils.serialize import _common, _yaml, modify_yaml

    if os.path.basename(path) != "dvc.lock":
        with modify_yaml(path, fs=fs) as data:
            yield data
        return
    with _common._modify_data(path, _yaml.parse_yaml, write_lock, fs=fs) as data:
        yield data


def write_lock(data: dict[str, Any], stream: TextIO) -> None:
    """Write dvc.lock as DVC does, which after every stage would take 0.3 s for the lines of all the others."""
    if list(data) == ["schema", "stages"] and data["stages"]:
        stream.write(write_yaml({"schema": data["schema"]}) + "stages:\n")
        for name, entry in data["stages"].items():
            key = repr((name, entry))
            if key not in written:  # the stage has just ended, or these are the first lines that are written
                written[key] = write_yaml({"stages": {name: entry}}).removeprefix("stages:\n")
            stream.write(written[key])
    else:
        stream.write(write_yaml(data))


def write_yaml(data: Any) -> str:
    """Write YAML as DVC does."""
    from dvc.utils.serialize import _yaml

    stream = io.StringIO()
    _yaml._dump(data, stream)
    return stream.getvalue()


def run_stage(executable: str | None, command: str, **options: Any) -> None:
    """Run the command of a stage, in the place of DVC's own function; Stopped if it was interrupted."""
    from dvc.stage.exceptions import StageCmdFailedError

    options["env"] = {**options["env"], LAUNCHED: str(os.getpid())}
    words = write_arguments(executable, command, options["env"])
    start = fork_stage if is_stage(words, options["env"]) else subprocess.Popen
    code, stopped_by = wait_for(lambda: start(words, **options))
    if stopped_by:
        take_killed()  # no news: we have ended it ourselves
        raise Stopped(128 + stopped_by)
    if code:
        raise StageCmdFailedError(command, code)


def write_arguments(executable: str | None, command: str, env: Mapping[str, str]) -> list[str]:
    """Return the arguments that run a stage's command: its own words where it needs no shell.

    A shell in between may hand on no signal: dash waits for its command, with signals let through, and leaves it behind when it ends.
    """
    from dvc.stage.run import _make_cmd

    words = command.split()
    if PLAIN.fullmatch(command) and shutil.which(words[0], path=env.get("PATH")):
        return words
    return _make_cmd(executable, command)


def wait_for(start: Callable[[], Process]) -> tuple[int, int]:
    """Start a process; return its exit code, and the signal that stopped it or 0. What has not ended soon after a signal is killed."""
    got: list[int] = []
    process: Process | None = None

    def stop(number: int, frame: FrameType | None = None) -> None:
        got.append(number)
        if process is None:  # another thread has taken the signal before there is one
            return
        if number == signal.SIGTERM:  # Ctrl-C goes to all processes of a terminal
            process.terminate()
        timer = threading.Timer(GRACE, process.kill)
        timer.daemon = True
        timer.start()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # here until there is a process to stop, and there until it can answer
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, stop)
        process = start()
        for number in list(got):
            stop(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return code, got[0] if got else ENDED_BY.get(code, 0)


def run(arguments: Sequence[str]) -> None:
    """Run DVC, and end with its exit code."""
    if code := run_dvc(arguments):
        sys.exit(code)


if __name__ == "__main__":
    run_command(lambda: run(sys.argv[1:]), kept=KEPT)
