"""Files are whole or absent, and a sealed one tells of every changed byte. Run: python -m pytest tests/pipeline/test_files.py"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.files import is_intact, list_sealed, read_sealed, replace_file, write_bytes, write_sealed

DATA = bytes(range(256))


def seal(folder: Path, name: str = "part-000001", data: bytes = DATA) -> Path:
    return write_sealed(folder, name, ".bin", lambda path: path.write_bytes(data))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replace_file(path) as temporary:
        temporary.write_text("half\ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_sealed_file_is_found_by_its_prefix_and_read_back(tmp_path: Path) -> None:
    second, first = seal(tmp_path, "part-000002"), seal(tmp_path, "part-000001")
    seal(tmp_path, "other")
    (tmp_path / "part-000003.bin").write_bytes(b"not sealed")
    assert list_sealed(tmp_path, "part-", ".bin") == [first, second]
    assert read_sealed(first) == DATA


def test_every_flipped_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    path = seal(tmp_path)
    assert is_intact(path)
    damaged = [DATA[:place] + bytes([DATA[place] ^ 1 << place % 8]) + DATA[place + 1 :] for place in range(len(DATA))]
    for data in (*damaged, *(DATA[:length] for length in range(len(DATA))), DATA + b"\0"):
        path.write_bytes(data)
        assert not is_intact(path)


def test_a_damaged_file_is_set_aside_with_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = seal(tmp_path)
    path.write_bytes(DATA[:-1])
    assert read_sealed(path) is None
    assert capsys.readouterr().out.count("is damaged and set aside") == 1
    assert list_sealed(tmp_path, "part-", ".bin") == []
    assert [left.suffix for left in tmp_path.iterdir()] == [".damaged"]


def test_a_missing_file_is_not_intact(tmp_path: Path) -> None:
    assert not is_intact(tmp_path / f"part-{'0' * 32}.bin")


NOT_THERE = [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS]


def refuse(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", NOT_THERE)
def test_a_file_system_without_fsync_is_written_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "fsync", refuse(number))
    write_bytes(tmp_path / "a.bin", DATA)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert read_sealed(seal(tmp_path)) == DATA


def test_a_failing_disk_is_no_missing_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        write_bytes(tmp_path / "a.bin", DATA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [*NOT_THERE, errno.EPERM])
def test_a_file_system_without_rights_is_written_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(Path, "chmod", refuse(number))
    write_bytes(tmp_path / "a.bin", DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == DATA


def forbid_replacing(monkeypatch: pytest.MonkeyPatch, number: int, *, fails: Path | None = None) -> None:
    """Let renaming onto a file that is there fail, and onto `fails` always."""
    rename = os.rename

    def replace(source: Path, target: Path) -> None:
        if Path(target).exists() or (Path(target) == fails and not Path(source).name.endswith(".old.tmp")):
            raise OSError(number, os.strerror(number), str(source), None, str(target))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("number", [*NOT_THERE, errno.EEXIST])
def test_a_file_system_that_cannot_replace_a_file_gets_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    write_bytes(tmp_path / "a.bin", b"old")
    forbid_replacing(monkeypatch, number)
    write_bytes(tmp_path / "a.bin", DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_the_old_file_comes_back_where_the_new_one_cannot_be_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a.bin", b"old")
    forbid_replacing(monkeypatch, errno.EEXIST, fails=tmp_path / "a.bin")
    with pytest.raises(FileExistsError):
        write_bytes(tmp_path / "a.bin", DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"old"
