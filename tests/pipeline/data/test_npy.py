"""Pickled arrays: plain data come back, code never runs. Run: python -m pytest tests/pipeline/data/test_npy.py"""

from __future__ import annotations

import collections
import io
import os
import pickle
import resource
import zlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.npy import read_npy


def save(path: Path, value: object) -> Path:
    np.save(path, value, allow_pickle=True)
    return path


def save_pickle(path: Path, payload: bytes) -> Path:
    """Write a .npy file of one object whose pickle is `payload`."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(header.getvalue() + payload)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_objects_come_back_as_they_were(tmp_path: Path, protocol: int) -> None:
    plain = {1: {"title": "Heat, The", "genres": ["Action", "Drama"], "intro": None}, "b": (1, 2.5, True, b"x", {1, 2})}
    numbers = {np.int64(3): {"18": [[1, 2], [np.int32(2), np.float64(0.5), np.str_("é")]]}}
    others = {"ordered": collections.OrderedDict(a=1), "default": collections.defaultdict(list, {1: [2]})}
    value = {"plain": plain, "numbers": numbers, "others": others}
    payload = pickle.dumps(np.array(value, dtype=object), protocol=protocol)
    assert read_npy(save_pickle(tmp_path / "x.npy", payload)) == value


def test_arrays_come_back_in_every_order_and_type(tmp_path: Path) -> None:
    table, words = np.arange(6.0).reshape(2, 3), np.array(["a/b.jpg", "c.png"])
    for n, array in enumerate([table, np.asfortranarray(table), words, np.arange(3, dtype=">i4")]):
        np.testing.assert_array_equal(read_npy(save(tmp_path / f"{n}.npy", array)), array)
    objects = np.array(["a/b.jpg", "c.png", None], dtype=object)
    assert read_npy(save(tmp_path / "o.npy", objects)).tolist() == objects.tolist()
    nested = np.empty((2, 2), dtype=object, order="F")
    nested[:] = [[np.arange(2), "b"], [{"c": 1}, [1, 2]]]
    got = read_npy(save(tmp_path / "f.npy", nested))
    assert (got[0, 1], got[1, 0], got[1, 1]) == ("b", {"c": 1}, [1, 2])


class RunsCode:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused_by_name_and_nothing_runs(tmp_path: Path) -> None:
    path = save(tmp_path / "evil.npy", {"a": RunsCode(tmp_path / "made")})
    with pytest.raises(ValueError, match=r"evil\.npy: the file wants to load 'posix\.mkdir', which is no plain data, so it was not loaded"):
        read_npy(path)
    assert not (tmp_path / "made").exists()
    np.load(path, allow_pickle=True)  # the test can fail: NumPy's own reader runs it
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n(S'1'\nS'x'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"c__main__\nx\n.",
        b"cnumpy.testing\nrunstring\n(S'1'\ntR.",
        b"cbuiltins\nlist.__class__\n(S'1'\ntR.",
        b"Ppersistent\n.",
        b"cnumpy\nndarray\n((I1000000000000\ntS'b'\ntR.",
        b"cnumpy\ndtype\n(S'O,O'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.",
        b"\x80\x02cnumpy\ndtype\nU\x02f8\x85R(K\x03U\x01<U\x01aU\x01bU\x01cJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
    ],
)
def test_every_other_name_and_odd_argument_is_refused(tmp_path: Path, payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"wants to load .*, which is no plain data"):
        read_npy(save_pickle(tmp_path / "x.npy", payload))


def test_a_file_cannot_change_what_the_next_one_is_read_by(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no plain data|no readable"):
        read_npy(save_pickle(tmp_path / "x.npy", b"cnumpy\ndtype\n(N}S'__init__'\ncbuiltins\nlist\nstb."))
    assert read_npy(save(tmp_path / "good.npy", {"a": np.float64(1.5)})) == {"a": 1.5}


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"not an array", zlib.compress(b"x" * 100)])
def test_other_and_damaged_files_get_one_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.npy: the file is no readable \.npy file"):
        read_npy(tmp_path / "x.npy")


def test_a_truncated_file_gets_one_sentence(tmp_path: Path) -> None:
    data = save(tmp_path / "x.npy", {n: [n] * 10 for n in range(100)}).read_bytes()
    for end in (len(data) // 2, len(data) - 1, 130):
        (tmp_path / "x.npy").write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"it may be cut off"):
            read_npy(tmp_path / "x.npy")


def test_a_high_object_number_takes_no_memory(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_npy(save_pickle(tmp_path / "x.npy", b"\x80\x02K\x01r\xff\xff\xff\x03.")) == 1  # the unpickler in C takes 1 GiB for it
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_claimed_length_beyond_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.npy: the file"):
        read_npy(save_pickle(tmp_path / "x.npy", b"\x80\x04\x8e\x00\x00\x00\x00\x00\x10\x00\x00abc."))


def test_a_nesting_that_never_ends_is_refused(tmp_path: Path) -> None:
    deep: list = []
    deep.append(deep)
    with pytest.raises(ValueError, match="no readable"):
        read_npy(save_pickle(tmp_path / "x.npy", pickle.dumps(deep)))
