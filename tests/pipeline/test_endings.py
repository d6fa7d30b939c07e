"""Full disks, read-only folders and signals end a command in one sentence. Run: python -m pytest tests/pipeline/test_endings.py"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.artifacts import write_bytes
from pipeline.endings import explain_os_error, run_command
from pipeline.terminal import say
from tests.toy_project import REPO

WRITE = """
import os, typer
from pathlib import Path
from pipeline.artifacts import write_bytes, write_table
from pipeline.schemas import CAPTIONS
from stages.entry import run_stage
app = typer.Typer()
@app.command()
def main(out: Path = typer.Option(...), kind: str = "bytes"):
    if kind == "bytes":
        write_bytes(out / "big.bin", b"0" * (4 << 20))
    else:
        rows = [{"item_id": str(i), "caption": os.urandom(100).hex()} for i in range(40_000)]
        write_table(out / "captions.parquet", rows, CAPTIONS, provenance={})
run_stage(app)
"""
WAIT = """
import time, typer
from pathlib import Path
from stages.entry import run_stage
app = typer.Typer()
@app.command()
def main(out: Path = typer.Option(...)):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        (out / "cleaned").touch()
run_stage(app)
"""


def run_script(script: str, *arguments: str, cwd: Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def set_limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does for itself

    env = {**os.environ, "PYTHONPATH": str(REPO), "DVC_ROOT": str(cwd)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, preexec_fn=set_limit if limit else None)


@contextlib.contextmanager
def mount_small(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system in memory; skip the test where that is not allowed."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def assert_one_sentence(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 2, ended.stderr
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("error: ")
    assert lines[0].endswith(".")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("kind", ["bytes", "table"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path: Path, kind: str) -> None:
    with mount_small(tmp_path / "small", "size=1m") as small:
        ended = run_script(WRITE, "--out", str(small / "out"), "--kind", kind, cwd=tmp_path)
        assert list((small / "out").iterdir()) == []
    assert_one_sentence(ended, str(small / "out"), "No space left on device", "free some space")


def test_a_limit_on_file_size_is_one_sentence(tmp_path: Path) -> None:
    ended = run_script(WRITE, "--out", "out", cwd=tmp_path, limit=1 << 20)
    assert_one_sentence(ended, "out", "File too large", "ulimit -f")


def test_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    with mount_small(tmp_path / "small", "size=1m,ro") as small:
        ended = run_script(WRITE, "--out", str(small / "out"), cwd=tmp_path)
    assert_one_sentence(ended, str(small / "out"), "Read-only file system", "make that file system writable")


def test_composing_params_in_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    with mount_small(tmp_path / "small", "size=1m") as small:
        (small / "conf").mkdir()
        (small / "conf" / "config.yaml").write_text("seed: 0\n")
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        env = {**os.environ, "PYTHONPATH": str(REPO)}
        command = [sys.executable, "-m", "pipeline.compose"]
        ended = subprocess.run(command, cwd=small, env=env, capture_output=True, text=True, check=False)
    assert_one_sentence(ended, "params.yaml", "Read-only file system")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "pydantic.py",
            "raise ImportError('no x', name='pydantic')",
            "the package pydantic cannot be loaded (no x)",
        ),
        ("pydantic.py", "x = (", "site-packages/pydantic.py is damaged ('(' was never closed, line 1)"),
    ],
)
def test_a_package_that_is_missing_or_damaged_is_one_sentence_of_the_first_command(tmp_path: Path, name: str, text: str, words: str) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / name).write_text(text)
    env = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{REPO}"}
    ended = subprocess.run([sys.executable, "-m", "pipeline.compose"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert_one_sentence(ended, words, "`rm -rf .venv` and `make setup` install everything again")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE])
def test_what_the_system_refuses_is_named_with_file_reason_and_cure(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: write_bytes(tmp_path / "x.json", b"{}"))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'x.json'}: {os.strerror(number)}; ")
    assert said.count("\n") == 1
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_file_is_shown_under_its_final_name_and_a_nameless_error_by_its_folders() -> None:
    named = OSError(errno.EACCES, "Permission denied", "data/x/.items.parquet.ab12_cd3.tmp")
    assert explain_os_error(named).startswith("data/x/items.parquet: Permission denied; ")
    nameless = OSError(errno.ENOSPC, "No space left on device")
    assert explain_os_error(nameless, [Path("data/x"), Path(".work")]).startswith("writing to data/x or .work: No space left on device; ")
    assert explain_os_error(OSError("no such\nmodel")) == "no such model"
    assert explain_os_error(FileNotFoundError(errno.ENOENT, "No such file or directory", b"a.csv")) == "a.csv: No such file or directory."


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_ends_a_stage_in_one_line_after_it_has_cleaned_up(tmp_path: Path, number: int, code: int, word: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPO), "DVC_ROOT": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, "--out", str(tmp_path)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a test in the background would ignore it
    ) as process:
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said == f"{word}: finished rows and checkpoints are kept, the same command goes on from there\n"
    assert (tmp_path / "cleaned").exists()
    assert time.monotonic() - started < 20


def test_a_fault_of_our_own_keeps_its_traceback_and_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyError):
        run_command(lambda: {}["no such key"])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


TALK = """
import sys
from pipeline.endings import run_command
run_command(lambda: [print("\\u00e9 \\u65b0\\u52a0\\u5377", n) for n in range(int(sys.argv[1]))])
"""


def test_a_pipe_that_nobody_reads_is_one_sentence(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    command = f"{sys.executable} -c {shlex.quote(TALK)} 100000 | head -n 1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.stdout == "é 新加卷 0\n"
    assert_one_sentence(ended, "whoever read the output has closed it")


def test_the_app_of_a_stage_ends_the_same_way(tmp_path: Path) -> None:
    script = WRITE.replace('    if kind == "bytes"', '    [print(n) for n in range(10**6)]\n    if kind == "bytes"')
    env = {**os.environ, "PYTHONPATH": str(REPO), "DVC_ROOT": str(tmp_path)}
    command = f"{sys.executable} -c {shlex.quote(script)} --out out | head -n 1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert_one_sentence(ended, "whoever read the output has closed it")


def talk(count: int, outputs: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Print some lines, with the outputs that the shell is told."""
    command = f"{sys.executable} -c {shlex.quote(TALK)} {count} {outputs}"
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.run(["bash", "-c", command], env=env, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_outputs_stop_nothing(tmp_path: Path, closed: str) -> None:
    ended = talk(3, closed, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("count", [3, 100_000])
def test_a_log_on_a_full_disk_is_one_sentence(tmp_path: Path, count: int) -> None:
    with mount_small(tmp_path / "small", "size=4k") as small:
        (small / "filler").write_bytes(b"0" * 4096)
        assert_one_sentence(talk(count, f"> {small}/log", tmp_path), "No space left on device; free some space")


def test_a_locale_without_utf_8_prints_every_letter_in_some_way(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPO), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", TALK, "1"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "\\xe9 \\u65b0\\u52a0\\u5377 0\n", "")


def test_too_many_open_files_is_one_sentence(tmp_path: Path) -> None:
    script = WRITE.replace('    if kind == "bytes"', '    files = [open(os.devnull) for _ in range(10**5)]\n    if kind == "bytes"')
    env = {**os.environ, "PYTHONPATH": str(REPO), "DVC_ROOT": str(tmp_path)}
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))  # noqa: E731
    command = [sys.executable, "-c", script, "--out", "out"]
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert_one_sentence(ended, "Too many open files", "ulimit -n 4096")


def test_no_memory_for_a_real_array_is_one_sentence_with_its_size(tmp_path: Path) -> None:
    script = WRITE.replace('    if kind == "bytes"', '    import numpy; numpy.zeros(10**15)\n    if kind == "bytes"')
    ended = run_script(script, "--out", "out", cwd=tmp_path)
    assert_one_sentence(ended, "the machine has no memory left (7.11 PiB more were asked for, ", "GiB free); close other programs")


def test_a_home_that_is_nowhere_and_a_folder_for_temporary_files_that_is_not_there_stop_nothing(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key != "HOME"}
    env |= {"PYTHONPATH": str(REPO), "DVC_ROOT": str(tmp_path), "TMPDIR": str(tmp_path / "absent")}
    ended = subprocess.run([sys.executable, "-c", WRITE, "--out", "out"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "out" / "big.bin").stat().st_size == 4 << 20


def test_a_closed_output_gets_nothing_and_a_full_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    say("to nobody")

    class Full(io.StringIO):
        name = "<stdout>"

        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left on device") as raised:
        say("a", file=Full())
    assert explain_os_error(raised.value, [Path("docs/results")]).startswith("what <stdout> is written to: No space left on device; free some space")
