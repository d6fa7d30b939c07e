"""Read `.npy` files that hold pickled Python objects, without ever running what is inside: plain containers, strings, numbers and arrays only.

NumPy's own `allow_pickle=True` runs whatever code the file names. Here the unpickler finds the few names that arrays, array scalars
and ordered dicts are made of, each behind a function that checks its arguments; any other name ends the reading.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.data.problems import DataError, quote
from pipeline.data.raw_files import require_file

MAX_FILE_BYTES = 2 * 1024**3
PLAIN_DTYPE = re.compile(r"[<>=|]?(O|b|\?|[iufUS])\d{0,6}")
PLAIN_TYPES = (str, bytes, bool, int, float, complex, np.generic)


class ForbiddenObject(pickle.UnpicklingError):
    """The file asks for something other than plain data; the message names it."""


def read_npy(path: Path) -> Any:
    """Return an array, or the plain Python object that was saved as an array of one object; DataError says why a file is refused."""
    if require_file(path).stat().st_size > MAX_FILE_BYTES:
        raise DataError(f"{path}: the file is larger than the allowed {MAX_FILE_BYTES:,} bytes.")
    try:
        with path.open("rb") as file:
            dtype = _read_dtype(file)
            if dtype.hasobject:
                value = resolve_plain(RestrictedUnpickler(file).load())
            else:
                file.seek(0)
                value = np.lib.format.read_array(file, allow_pickle=False)
    except ForbiddenObject as error:
        raise DataError(f"{path}: the file wants to load {error}, which is no plain data, so it was not loaded; it may be an attack.") from error
    except MemoryError as error:
        raise DataError(f"{path}: the file claims to be larger than the memory, so it is damaged or an attack.") from error
    except Exception as error:  # pickle and NumPy raise many kinds on damaged data
        raise DataError(f"{path}: the file is no readable .npy file ({_first_line(error)}); it may be cut off.") from error
    return value.item() if isinstance(value, np.ndarray) and value.dtype.hasobject and value.shape == () else value


def _read_dtype(file: BinaryIO) -> np.dtype:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} is not known")
    return read(file)[2]


class RestrictedUnpickler(pickle._Unpickler):
    """Unpickles plain data, arrays as PickledArray; every global name that is not on its list raises ForbiddenObject.

    It is the unpickler written in Python: the one in C fills gigabytes when a file numbers an object high enough.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return the checked stand-in of an allowed name, in a wrapper that the file cannot change for others."""
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy", "ndarray"): _refuse_call,  # passed on to _reconstruct, never called
            ("numpy", "dtype"): PickledDtype,
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: PickledArray(),
            ("numpy.core.multiarray", "scalar"): _make_scalar,
            ("numpy.core.numeric", "_frombuffer"): _make_array,
            ("_codecs", "encode"): _encode_latin1,
            ("collections", "OrderedDict"): lambda *_: {},
            ("collections", "defaultdict"): lambda *_: {},
            ("builtins", "list"): list,
            ("builtins", "dict"): lambda *_: {},
            ("builtins", "set"): set,
        }
        key = (module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins"), name)
        if key not in allowed:
            raise ForbiddenObject(quote(f"{module}.{name}"))
        maker = allowed[key]
        return lambda *args: maker(*args)

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside of the file."""
        raise ForbiddenObject("an object from outside of the file")


class PickledDtype:
    """An array type as a pickle describes it: a plain one with a byte order, never one with fields."""

    def __init__(self, text: str, *_: object) -> None:
        if not isinstance(text, str) or not PLAIN_DTYPE.fullmatch(text):
            raise ForbiddenObject(f"the array type {quote(text)}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        """Take the byte order, and refuse a type with fields."""
        _, order, *fields = state
        if order not in ("<", ">", "=", "|") or any(field is not None for field in fields[:3]):
            raise ForbiddenObject("an array type with fields")
        if order in "<>":
            self.dtype = self.dtype.newbyteorder(order)


class PickledArray:
    """An array as a pickle describes it: its shape, and its elements as bytes or, for objects, as a list."""

    def __init__(self) -> None:
        self.value = np.empty(0, dtype=np.int8)

    def __setstate__(self, state: tuple) -> None:
        """Build the array; NumPy checks that the shape fits the elements."""
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, PickledDtype):
            raise ForbiddenObject("an array of an unusual type")
        if dtype.dtype.hasobject:
            flat = np.empty(len(data), dtype=object)
            for place, element in enumerate(data):  # a slice assignment would unpack lists of equal length
                flat[place] = element
            self.value = flat.reshape(shape)  # NumPy lists objects in C order whatever the array's own is
        else:
            self.value = _make_array(data, dtype, shape, "F" if is_fortran else "C").value


def resolve_plain(value: Any) -> Any:
    """Return `value` with every PickledArray replaced by its array, at any depth."""
    if isinstance(value, PickledArray):
        if value.value.dtype.hasobject:
            for place in np.ndindex(value.value.shape):
                value.value[place] = resolve_plain(value.value[place])
        return value.value
    if isinstance(value, dict):
        return {resolve_plain(key): resolve_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(resolve_plain(item) for item in value)
    if value is not None and not isinstance(value, PLAIN_TYPES):
        raise ForbiddenObject(f"a {type(value).__name__}")
    return value


def _make_scalar(dtype: PickledDtype, data: bytes) -> object:
    if dtype.dtype.hasobject or len(data) != dtype.dtype.itemsize:
        raise ForbiddenObject("an unusual array scalar")
    return np.frombuffer(data, dtype=dtype.dtype, count=1)[0]


def _make_array(data: bytes, dtype: PickledDtype, shape: tuple[int, ...], order: str) -> PickledArray:
    if dtype.dtype.hasobject:
        raise ForbiddenObject("an array of objects in a buffer")
    array = PickledArray()
    array.value = np.frombuffer(data, dtype=dtype.dtype).reshape(shape, order=order)
    return array


def _refuse_call(*_: object) -> None:
    raise ForbiddenObject("an array that is made directly")


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ForbiddenObject(f"the encoding {quote(encoding)}")
    return text.encode("latin-1")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
