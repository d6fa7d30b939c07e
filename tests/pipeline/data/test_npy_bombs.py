"""Small `.npy` files that would fill memory or take for ever, read with little memory. Run: python -m pytest tests/pipeline/data/test_npy_bombs.py"""

from __future__ import annotations

import io
import pickle
import re
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import plain_pickle
from pipeline.data.npy import read_npy

REPO = Path(__file__).resolve().parents[3]
READ_WITH_LITTLE = """
    import resource, sys, time
    from pathlib import Path
    from pipeline.data.npy import read_npy
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted(Path(sys.argv[1]).glob("*.npy")):
        try:
            print(path.stem, "was read", type(read_npy(path)).__name__)
        except ValueError as error:
            print(path.stem, error)
    print("mib", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def wrap(payload: bytes) -> bytes:
    """Return a .npy file of one object whose pickle is `payload`."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    return header.getvalue() + payload


def wrap_array(shape: tuple[int, ...], descr: object, data: bytes = b"") -> bytes:
    """Return a .npy file that claims a shape and a type."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue() + data


def nest(start: object, times: int, around: Callable[[object], object]) -> object:
    value = start
    for _ in range(times):
        value = around(value)
    return value


def dump(value: object) -> bytes:
    """Pickle a nesting that the pickler itself would recurse in only as deep as `value` is."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        return pickle.dumps(value, protocol=2)
    finally:
        sys.setrecursionlimit(limit)


def call(name: bytes, argument: bytes) -> bytes:
    """Return the opcodes of a call of an allowed name with one argument."""
    return b"c" + name + b"\n" + argument + b"\x85R"


BIG_LIST = b"\x80\x02]q\x00(" + b"N" * 50_000 + b"e0]q\x01("

BOMBS = {  # file -> what the sentence says; none is larger than 400 KiB
    "laughs_lists": (wrap(dump(nest([1] * 10, 12, lambda x: [x] * 10))), "stands for more than the allowed 10,000,000 values"),
    "laughs_dicts": (wrap(dump(nest({0: 1}, 15, lambda x: dict.fromkeys(range(8), x)))), "stands for more than the allowed 10,000,000 values"),
    "laughs_tuples": (wrap(dump(nest((1,) * 10, 15, lambda x: (x,) * 10))), "stands for more than the allowed 10,000,000 values"),
    "laughs_text": (wrap(dump([["x" * 100_000] * 100] * 100)), "stands for more than the allowed 10,000,000 values"),
    "laughs_array": (wrap(dump(nest([np.zeros(10_000)] * 100, 1, lambda x: [x] * 100))), "stands for more than the allowed 10,000,000 values"),
    "laughs_keys": (wrap(b"\x80\x02}K\x01K\x02\x86" + b"2\x86" * 40 + b"K\x01s."), "wants to load a tuple as a key"),
    "laughs_members": (wrap(b"\x80\x04\x8f(K\x01K\x02\x86\x90."), "wants to load a tuple as a key"),
    "laughs_frozen": (wrap(b"\x80\x04(K\x01K\x02\x86\x91."), "wants to load a tuple as a key"),
    "deep_lists": (wrap(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), "is nested deeper than the allowed 20 levels"),
    "deep_tuples": (wrap(b"\x80\x02N" + b"\x85" * 100_000 + b"."), "is nested deeper than the allowed 20 levels"),
    "deep_keys": (wrap(b"\x80\x02}N" + b"\x85" * 100_000 + b"K\x01s."), "wants to load a tuple as a key"),
    "deep_shared": (wrap(dump(nest([], 30, lambda x: [x]))), "is nested deeper than the allowed 20 levels"),
    "itself": (wrap(b"\x80\x02]q\x00h\x00a."), "holds an object that holds itself"),
    "itself_in_dict": (wrap(b"\x80\x02}q\x00K\x01]h\x00as."), "holds an object that holds itself"),
    "bytearray": (wrap(b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b"."), "wants to load a writable or foreign buffer"),
    "long_text": (wrap(b"\x80\x04\x8d" + struct.pack("<Q", 8 << 30) + b"x."), "is no readable .npy file"),
    "long_frame": (wrap(b"\x80\x04\x95" + struct.pack("<Q", 8 << 30) + b"x."), "is no readable .npy file"),
    "copies": (wrap(BIG_LIST + call(b"builtins\nlist", b"h\x00") * 1000 + b"e."), "takes more than the allowed 10,000,000 steps"),
    "copies_sets": (wrap(BIG_LIST + call(b"builtins\nset", b"h\x00") * 1000 + b"e."), "takes more than the allowed 10,000,000 steps"),
    "arguments": (
        wrap(b"\x80\x02(" + b"N" * 50_000 + b"tq\x00](" + b"cbuiltins\ndict\nh\x00R" * 1000 + b"e."),
        "takes more than the allowed 10,000,000 steps",
    ),
    "claims": (wrap_array((10**12,), "<f8"), "is no readable .npy file \\(it claims 8,000,000,000,000 bytes of elements, but holds 0\\)"),
    "claims_little": (wrap_array((10**9,), "|b1", b"x"), "is no readable .npy file \\(it claims 1,000,000,000 bytes"),
    "claims_overflow": (wrap_array((2**32, 2**32), "<f8"), "is no readable .npy file \\(it claims"),
    "claims_nothing": (wrap_array((10**15, 0), "<f8"), r"claims the shape '\(1000000000000000, 0\)'"),
    "claims_empty": (wrap_array((10**15,), "|S0"), "wants to load an array of the type 'S0|an array of the type"),
    "fields": (wrap_array((1,), [("a", "<i4")], b"1234"), "wants to load an array of the type"),
}


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Read all bombs in one process that may have 1 GiB of address space and 20 s, and return what it says of each."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (data, _) in BOMBS.items():
        assert len(data) < 400 * 1024, name
        (folder / f"{name}.npy").write_bytes(data)
    command = [sys.executable, "-c", textwrap.dedent(READ_WITH_LITTLE), str(folder)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_stands_for_much_is_refused_in_one_sentence(sentences: dict[str, str], name: str) -> None:
    assert re.search(BOMBS[name][1], sentences[name]), sentences[name]
    assert f"{name}.npy: the file" in sentences[name]


def test_reading_them_takes_little_memory(sentences: dict[str, str]) -> None:
    assert int(sentences["mib"]) < 100


def test_the_values_met_are_counted_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = [1, 2, 3]  # 4 values: itself and its three
    path = tmp_path / "x.npy"
    path.write_bytes(wrap(pickle.dumps([shared, shared, shared, "x" * 16])))  # 1 + 3 x 4 + 1 + 16 / 8
    monkeypatch.setattr(plain_pickle, "MAX_VALUES", 40)
    first, second, _, text = read_npy(path)
    assert (first, text) == ([1, 2, 3], "x" * 16)
    assert first is second  # what is shared is made once
    path.write_bytes(wrap(pickle.dumps([shared] * 9)))  # 1 + 9 x 4 = 37 values in 24 steps
    assert read_npy(path) == [[1, 2, 3]] * 9
    path.write_bytes(wrap(pickle.dumps([shared] * 10)))
    with pytest.raises(ValueError, match=r"stands for more than the allowed 40 values, so it is damaged or an attack"):
        read_npy(path)


def test_the_deepest_allowed_nesting_is_read(tmp_path: Path) -> None:
    value = nest(1, plain_pickle.MAX_DEPTH, lambda x: [x])
    (tmp_path / "x.npy").write_bytes(wrap(pickle.dumps(value)))
    assert read_npy(tmp_path / "x.npy") == value
