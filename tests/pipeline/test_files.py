"""Files are whole or absent, and a sealed one tells of every changed byte. Run: python -m pytest tests/pipeline/test_files.py"""

from pathlib import Path

import pytest

from pipeline.files import is_intact, list_sealed, read_sealed, replace_file, write_sealed

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
