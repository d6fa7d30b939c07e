"""`python -m pipeline.dvc_command repro [STAGE ...]`: DVC's command line, of which Ctrl-C leaves one line.

DVC itself waits for as long as a stage likes and prints errors of its own, and Python a traceback if it was still importing. Here a stage
gets Ctrl-C only once it can answer (see `run_command`), has two seconds to end, and the last line is ours. And a stage is forked from a process
that keeps large packages loaded (`stages/server.py`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from pipeline.endings import LAUNCHED, Stopped, run_command
from pipeline.memory import take_killed

KEPT = "finished rows and checkpoints are kept, run the same command again and it goes on from there"
GRACE = 1.2  # seconds that a stage has to end after Ctrl-C
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PLAIN = re.compile(r"\s*[\w./-]+(?:\s+[\w./:,@%+=-]+)*\s*")  # a command without anything that means something to a shell
STAGES, SERVER = "stages.", "stages.server"
ENDED_BY = {128 + number: number for number in SIGNALS} | {-number: number for number in SIGNALS}  # by exit code


def run_dvc(arguments: Sequence[str]) -> int:
    """Run DVC's command line in this process and return its exit code; Stopped if it or a stage was interrupted."""
    import dvc.dvcfile
    import dvc.stage.run
    from dvc.cli import main

    dvc.stage.run._run = run_stage
    dvc.dvcfile.modify_yaml = modify_lock
    return main(list(arguments))


@contextlib.contextmanager
def modify_lock(path: str, fs: Any = None) -> Iterator[Any]:
    """Modify a YAML file, in the place of DVC's own function, which takes seconds a run to keep the comments that a dvc.lock does not have."""
    from dvc.utils.serialize import _common, _yaml, modify_yaml

    if os.path.basename(path) != "dvc.lock":
        with modify_yaml(path, fs=fs) as data:
            yield data
        return
    with _common._modify_data(path, _yaml.parse_yaml, _yaml._dump, fs=fs) as data:
        yield data


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


def is_stage(words: Sequence[str], env: Mapping[str, str]) -> bool:
    """Say whether a command is a module of stages run by the Python that runs us, where processes can be forked."""
    python = shutil.which(words[0], path=env.get("PATH"))
    ours = python is not None and Path(python).parent.absolute() == Path(sys.executable).parent.absolute()
    return ours and words[1:2] == ["-m"] and words[2:3] != [] and words[2].startswith(STAGES) and hasattr(os, "fork")


class Process(Protocol):
    """A process that was started, as `subprocess` has them."""

    def wait(self) -> int:
        """Wait for its end and return its exit code, -N if signal N ended it."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


class ForkedStage:
    """The process of a stage that the server has forked."""

    def __init__(self, connection: Connection) -> None:
        """Wait for its id."""
        self.connection, self.number = connection, connection.recv()

    def wait(self) -> int:
        """Wait for its end and return its exit code; that of a killed one if the server is gone."""
        try:
            return self.connection.recv()
        except EOFError:
            self.kill()
            return -signal.SIGKILL

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send(signal.SIGKILL)

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.number, number)


def fork_stage(words: Sequence[str], **options: Any) -> Process:
    """Have the server fork the process of a stage; a plain process if the server is gone."""
    folder = os.path.abspath(options["cwd"])
    try:
        connection = start_server(sys.executable, folder)
        connection.send((words[2], list(words[3:]), folder, dict(options["env"])))
        return ForkedStage(connection)
    except (OSError, EOFError):
        start_server.cache_clear()
        return subprocess.Popen(words, **options)


@functools.cache
def start_server(python: str, folder: str) -> Connection:
    """Start the server that forks the stages of a folder, and return the connection to it, with which it ends."""
    here, there = Pipe()
    subprocess.Popen([python, "-m", SERVER, str(there.fileno())], cwd=folder, pass_fds=[there.fileno()])
    there.close()
    return here


def wait_for(start: Callable[[], Process]) -> tuple[int, int]:
    """Start a process; return its exit code, and the signal that stopped it or 0. What has not ended soon after a signal is killed."""
    got: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        got.append(number)
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
