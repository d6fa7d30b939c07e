"""The processes of stages, forked by a server that keeps large packages loaded (`stages/server.py`), as our launcher of DVC starts and ends them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

CHANGES_NO_RESULT = True
STAGES, SERVER = "stages.", "stages.server"
PATIENCE = 0.1  # seconds between two looks for signals
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # the kernel has less to do for a tensor; another libc does not read it


class Process(Protocol):
    """A process that was started, as `subprocess` has them."""

    def wait(self) -> int:
        """Wait for its end and return its exit code, -N if signal N ended it."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


@dataclass(frozen=True)
class Server:
    """A server's process, and the connection with which it ends."""

    process: subprocess.Popen
    connection: Connection


servers: dict[str, Server] = {}  # by the folder whose stages they fork


class ForkedStage:
    """The process of a stage that a server has forked."""

    def __init__(self, server: Server) -> None:
        """Wait for its id; EOFError if the server is gone, or was ended because a signal is waiting while it loads packages."""
        self.connection = server.connection
        while not self.connection.poll(PATIENCE):
            if signal.sigpending() & {signal.SIGINT, signal.SIGTERM}:
                server.process.kill()
        self.number = self.connection.recv()

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


def is_stage(words: Sequence[str], env: Mapping[str, str]) -> bool:
    """Say whether a command is a module of stages run by the Python that runs us, on Linux: elsewhere libraries may not live through a fork."""
    python = shutil.which(words[0], path=env.get("PATH"))
    ours = python is not None and Path(python).parent.absolute() == Path(sys.executable).parent.absolute()
    return ours and words[1:2] == ["-m"] and words[2:3] != [] and words[2].startswith(STAGES) and sys.platform == "linux"


def fork_stage(words: Sequence[str], **options: Any) -> Process:
    """Have a server fork the process of a stage; a plain process if that server is gone. `options` are those of `subprocess.Popen`."""
    folder = os.path.abspath(options["cwd"])
    try:
        if folder not in servers:
            servers[folder] = start_server(folder)
        server = servers[folder]
        server.connection.send((words[2], list(words[3:]), folder, dict(options["env"])))
        return ForkedStage(server)
    except (OSError, EOFError):
        stop_servers()
        return subprocess.Popen(words, **options)


def start_server(folder: str) -> Server:
    """Start a server for the stages of a folder."""
    here, there = Pipe()
    env = LARGE_PAGES | os.environ  # of the server: a stage's own variables are those that DVC gives it
    process = subprocess.Popen([sys.executable, "-m", SERVER, str(there.fileno())], cwd=folder, env=env, pass_fds=[there.fileno()])
    there.close()
    return Server(process, here)


def stop_servers() -> None:
    """End the servers; they have nothing to keep."""
    while servers:
        _, server = servers.popitem()
        server.connection.close()
        server.process.wait()
