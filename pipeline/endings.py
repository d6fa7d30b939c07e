"""How a command ends when something goes wrong outside of the code: one sentence and an exit code, never a traceback.

Exit code 2: bad input, a file that cannot be read or written, no memory, a GPU or a package that does not work. 130 and 143: Ctrl-C and
SIGTERM, as shells have it. An error of our own code keeps its traceback.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from pipeline.memory import explain_memory, is_out_of_memory
from pipeline.terminal import say

CHANGES_NO_RESULT = True

FAILED = 2
LAUNCHED = "RAGAR_LAUNCHED"  # set for a stage that our own launcher of DVC has started: it has the last word (pipeline/dvc_command.py)
ADVICE = {
    errno.ENOSPC: "free some space on that disk and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EROFS: "make that file system writable, or work in a copy of the project elsewhere",
    errno.EACCES: "give this user the right to read and write there",
    errno.EPERM: "give this user the right to read and write there",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`)",
    errno.EMFILE: "raise the limit on open files (`ulimit -n 4096`)",
    errno.ENFILE: "the whole machine has too many open files: close other programs",
    errno.ENOMEM: "the machine has no memory left: close other programs, or lower the batch size of the stage",
    errno.EAGAIN: "the limit on processes and threads is reached: raise it (`ulimit -u`), or set runtime.workers=1",
    errno.ENOLCK: "its file system has no locks: move the project to a local disk",
    errno.ENAMETOOLONG: "give it a shorter name, or move the project to a shorter path",
    errno.ESTALE: "the network disk has lost the file: mount it again and run the same command again",
    errno.ETIMEDOUT: "the network disk does not answer: wait until it is back and run the same command again",
    errno.EHOSTDOWN: "the network disk does not answer: wait until it is back and run the same command again",
    errno.ENOTCONN: "its file system is not mounted any more: mount it again and run the same command again",
    errno.ELOOP: "a symbolic link there leads to itself: remove it",
    errno.EIO: "the disk itself reports an error: check it, then run `make verify`",
}
LINE_BREAK = re.compile(r"\s*[\r\n\t]\s*")  # libraries say things in several lines
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.tmp")  # what `replace_file` writes to before it renames


# What libraries raise on the world's faults with classes of their own; named, for importing them takes seconds.
FOREIGN = ("AcceleratorError", "DvcException", "SCMError", "GitError", "LibsqliteError", "OperationalError", "DatabaseError")
INSTALL_AGAIN = "`rm -rf .venv` and `make setup` install everything again"
OURS = ("pipeline", "stages", "experiments", "embedded", "tests")


class Stopped(SystemExit):
    """Ctrl-C or SIGTERM; `code` is 128 and the signal's number."""


def run_command(command: Callable[[], object], *, kept: str = "", folders: Sequence[Path] = (), stage: str = "") -> None:
    """Run a command to its end; what goes wrong outside of the code is one line on stderr and an exit code.

    `kept` says what an interrupted command leaves; `folders` are those that it writes to, for errors that name no file; `stage` is the
    block of params that can be lowered when there is no memory left.
    """
    prepare_streams()
    before = stop_on_signals()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, before)  # who starts us may hold them back until here, where they can be answered
        run_to_end(command)
    except (Stopped, KeyboardInterrupt) as error:
        code = error.code if isinstance(error, Stopped) else 128 + signal.SIGINT
        word = "terminated" if code == 128 + signal.SIGTERM else "interrupted"
        if LAUNCHED not in os.environ:
            complain(f"{word}: {kept}" if kept else word)
        sys.exit(code)
    except Exception as error:
        sentence = explain(error, folders, stage)
        if sentence is None:
            raise
        fail(sentence)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_to_end(command: Callable[[], object]) -> None:
    """Run a command, and what it still has to print; typer hides a closed pipe behind an exit code, which becomes the error again."""
    try:
        command()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from error
        if not error.code:
            finish()
        raise
    finish()


def finish() -> None:
    """Print what is still to be printed, and note that a stage has come to its end."""
    flush_stdout()
    if "DVC_STAGE" in os.environ:
        from pipeline.run_progress import end_stage  # needs packages, of which this module must be able to say that they are missing

        end_stage()


def leave(code: int) -> NoReturn:
    """End this process at once: Python would take the objects of large packages apart one by one, which takes 1 to 2 seconds."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def flush_stdout() -> None:
    """Print what is still to be printed: a full disk or a closed pipe shows here at the latest."""
    if sys.stdout is not None:
        sys.stdout.flush()


def end_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """End a process whose modules could not be loaded, as `sys.excepthook`: a sentence where the world is at fault."""
    sentence = explain(error) if isinstance(error, Exception) else None
    if sentence is None or isinstance(error, ValueError):  # no input has been read yet
        sys.__excepthook__(kind, error, traceback)
    else:
        fail(sentence)


def explain(error: Exception, folders: Sequence[Path] = (), stage: str = "") -> str | None:
    """Return the sentence for an error that the world has caused; None for one of our own code."""
    if is_out_of_memory(error):
        return explain_memory(error, stage)
    if isinstance(error, BrokenPipeError):
        return "whoever read the output has closed it (a pipe to `head`?); let it be read to its end, or write it to a file."
    if isinstance(error, OSError):
        return explain_os_error(error, folders)
    if isinstance(error, ImportError):
        return explain_import(error)
    if isinstance(error, SyntaxError) and "site-packages" in (error.filename or ""):
        return f"{error.filename} is damaged ({error.msg}, line {error.lineno}); {INSTALL_AGAIN}."
    if isinstance(error, subprocess.CalledProcessError):
        return explain_child(error)
    if isinstance(error, ValueError):
        return str(error)
    text = " ".join(str(error).split())
    if number := re.search(r"os error (\d+)", text):  # of safetensors and tokenizers, which are written in Rust
        return explain_os_error(OSError(int(number[1]), os.strerror(int(number[1]))), folders)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "AcceleratorError" in kinds or (
        isinstance(error, RuntimeError) and re.search(r"CUDA (driver )?(error|initialization)|cuDNN error|NVIDIA driver", text)
    ):
        said = text.split("CUDA kernel errors might be")[0].split("Compile with")[0].split("Search for")[0].strip().rstrip(".")
        return f"the GPU does not work ({said}); `make doctor` looks for the reason, and runtime.device=cpu does without it."
    if isinstance(error, RuntimeError) and "can't start new thread" in text:
        return explain_os_error(OSError(errno.EAGAIN, "no further thread can be started"), folders)
    return f"{text.rstrip('.') or type(error).__name__}." if kinds & set(FOREIGN) else None


def explain_import(error: ImportError) -> str | None:
    """Return the sentence for a package that is missing or broken; None for a module of our own."""
    name = (error.name or "").split(".")[0]
    if name in OURS:
        return None
    reason = " ".join(str(error).split()).rstrip(".")
    environment = Path(".venv")
    if environment.is_dir() and Path(sys.prefix).resolve() != environment.resolve():  # a bare `.venv/bin/dvc repro` starts the system's Python
        cure = f"this is {sys.executable} and not the project's Python: `. .venv/bin/activate` first, or take make's targets"
        return f"the package {name or '?'} cannot be loaded ({reason}); {cure}."
    return f"the package {name or '?'} cannot be loaded ({reason}); {INSTALL_AGAIN}."


def explain_child(error: subprocess.CalledProcessError) -> str:
    """Return the sentence for a program that has failed: its own last words, or the signal that ended it."""
    words = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd))
    if error.returncode == -signal.SIGKILL:
        return f"`{words}` was killed, most likely by the system because memory ran out; {explain_memory(MemoryError()).rpartition('; ')[2]}"
    said = error.stderr or error.stdout or b""
    text = " ".join((said.decode(errors="replace") if isinstance(said, bytes) else said).split())
    return f"`{words}` has failed with code {error.returncode}{f': {text}' if text else ''}; `make doctor` looks for the reason."


def prepare_streams() -> None:
    """Let every letter be printed, escaped where the locale has no UTF-8, and keep closed streams from becoming a file that is opened later."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def close_stdout() -> None:
    """Throw away what is still to be printed: Python would try once more at its end, and complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(text: str) -> NoReturn:
    """Print an error as one line and end the process."""
    complain(f"error: {LINE_BREAK.sub(' ', text.strip())}")
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        close_stdout()
    sys.exit(FAILED)


def complain(text: str) -> None:
    """Print a line on stderr; where nobody reads that, the exit code has to do."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        say(text, file=sys.stderr)


def stop_on_signals() -> dict[int, Any]:
    """Let the first Ctrl-C or SIGTERM unwind the stack, so that temporary files go, and a second one end the process; return the old handlers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as for a job that a shell has put into the background
            signal.signal(number, raise_stopped)
    return before


def raise_stopped(number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal."""
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(128 + number)


def explain_os_error(error: OSError, folders: Sequence[Path] = ()) -> str:
    """Return one sentence: which file, why, what to do."""
    if error.errno is None:  # libraries raise it with a text of their own
        return " ".join(str(error).split()) or type(error).__name__
    reason = error.strerror or ""
    if "No usable temporary directory" in reason:
        tried = reason.partition(" found in ")[2]
        return f"there is no folder for temporary files with free space, tried were {tried}; name one with the variable TMPDIR."
    if "Detail:" in reason:  # Arrow puts the system's words behind its own
        reason = reason.partition("] ")[2] or reason
    advice = ADVICE.get(error.errno)
    return f"{name_file(error, folders)}: {reason}{f'; {advice}' if advice else ''}."


def name_file(error: OSError, folders: Sequence[Path]) -> str:
    """Return the file that an error is about: the last one named, a temporary file under its final name, else the folders written to."""
    names = [name for name in (error.filename, error.filename2) if name is not None and not isinstance(name, int)]
    if not names:
        return f"writing to {' or '.join(map(str, folders))}" if folders else "a file"
    path = Path(names[-1].decode(errors="replace") if isinstance(names[-1], bytes) else str(names[-1]))
    match = TEMPORARY.fullmatch(path.name)
    return str(path.with_name(match["name"]) if match else path)
