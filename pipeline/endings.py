"""How a command ends when something goes wrong outside of the code: one sentence and an exit code, never a traceback.

Exit code 2: bad input, or a file that cannot be read or written. 130 and 143: Ctrl-C and SIGTERM, as shells have it.
"""

from __future__ import annotations

import errno
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pipeline.terminal import say

CHANGES_NO_RESULT = True

FAILED = 2
ADVICE = {
    errno.ENOSPC: "free some space on that disk and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EROFS: "make that file system writable, or work in a copy of the project elsewhere",
    errno.EACCES: "give this user the right to read and write there",
    errno.EPERM: "give this user the right to read and write there",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`)",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.EIO: "the disk itself reports an error: check it, then run `make verify`",
}
LINE_BREAK = re.compile(r"\s*[\r\n\t]\s*")  # libraries say things in several lines
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.tmp")  # what `replace_file` writes to before it renames


class Stopped(SystemExit):
    """Ctrl-C or SIGTERM; `code` is 128 and the signal's number."""


def run_command(command: Callable[[], object], *, kept: str = "", folders: Sequence[Path] = ()) -> None:
    """Run a command to its end; what goes wrong outside of the code is one line on stderr and an exit code.

    `kept` says what an interrupted command leaves; `folders` are those that it writes to, for errors that name no file.
    """
    before = stop_on_signals()
    try:
        command()
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(explain_os_error(error, folders))
    except (Stopped, KeyboardInterrupt) as error:
        code = error.code if isinstance(error, Stopped) else 128 + signal.SIGINT
        word = "terminated" if code == 128 + signal.SIGTERM else "interrupted"
        say(f"{word}: {kept}" if kept else word, file=sys.stderr)
        sys.exit(code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fail(text: str) -> NoReturn:
    """Print an error as one line and end the process."""
    say(f"error: {LINE_BREAK.sub(' ', text.strip())}", file=sys.stderr)
    sys.exit(FAILED)


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
