"""Unpickle plain data (containers, texts, numbers, arrays) that nobody has checked: no code runs, and depth, size and memory are bounded.

The unpickler finds the few names that arrays, array scalars and ordered dicts are made of, each behind a function that checks its
arguments; any other name ends the reading. Two kinds of small files would fill a machine: those that copy or build a lot with few bytes (what
every step makes is counted against MAX_VALUES), and those in which ten lists hold ten times the same ten lists, and so on ("billion laughs": the
values are counted as often as they are met, but made once).
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np

from pipeline.data.problems import quote

MAX_VALUES = 10_000_000  # steps of a pickle, and values met by whoever walks through the result; 250,000 windows of six items take 3 million
MAX_DEPTH = 20  # containers in each other; users, genres, windows and items are 5
CHARACTERS_A_VALUE = 8  # of a text, or bytes of an array
PLAIN_DTYPE = re.compile(r"[<>=|]?(O|b|\?|[iufUS])\d{0,6}")
PLAIN_TYPES = (bool, int, float, complex, np.generic, type(None))
KEY_TYPES = (str, bytes, int, float, np.generic, type(None))

Spend = Callable[[int], None]
Measured = tuple[Any, int, int]  # a value, how deep it is, how many values whoever walks through it meets


class ForbiddenObject(pickle.UnpicklingError):
    """The file asks for something other than plain data; the message names it."""


class Unreasonable(pickle.UnpicklingError):
    """The file stands for more than data do; the message says what it does."""


def load_plain(file: BinaryIO) -> Any:
    """Unpickle plain data; ForbiddenObject and Unreasonable say why a file is refused, and damaged data raise other errors of many kinds."""
    value, _, _ = resolve_plain(PlainUnpickler(file).load(), {})
    return value


class PlainUnpickler(pickle._Unpickler):
    """Unpickles plain data, arrays as PickledArray; every global name that is not on its list raises ForbiddenObject.

    It is the unpickler written in Python: the one in C fills gigabytes when a file numbers an object high enough.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.left = MAX_VALUES

    def spend(self, num_values: int) -> None:
        """Count values that a step makes or copies."""
        self.left -= num_values
        if self.left < 0:
            raise Unreasonable(f"takes more than the allowed {MAX_VALUES:,} steps to read")

    def find_class(self, module: str, name: str) -> Any:
        """Return the checked stand-in of an allowed name, in a wrapper that the file cannot change for others."""
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy", "ndarray"): _refuse_call,  # passed on to _reconstruct, never called
            ("numpy", "dtype"): PickledDtype,
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: PickledArray(self.spend),
            ("numpy.core.multiarray", "scalar"): self._make_scalar,
            ("numpy.core.numeric", "_frombuffer"): lambda *arguments: _fill(PickledArray(self.spend), *arguments),
            ("_codecs", "encode"): self._encode_latin1,
            ("collections", "OrderedDict"): lambda *_: {},
            ("collections", "defaultdict"): lambda *_: {},
            ("builtins", "list"): lambda *items: list(self._copy(*items)),
            ("builtins", "dict"): lambda *_: {},
            ("builtins", "set"): lambda *items: set(_check_keys(self._copy(*items))),
        }
        key = (module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins"), name)
        if key not in allowed:
            raise ForbiddenObject(quote(f"{module}.{name}"))
        maker = allowed[key]
        return lambda *args: maker(*args)

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside of the file."""
        raise ForbiddenObject("an object from outside of the file")

    def _copy(self, items: Any = ()) -> list[Any]:
        if not isinstance(items, list | tuple | set):
            raise ForbiddenObject(f"a container that is made of a {type(items).__name__}")
        self.spend(len(items))
        return list(items)

    def _encode_latin1(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise ForbiddenObject(f"the encoding {quote(encoding)}")
        self.spend(len(text) // CHARACTERS_A_VALUE)
        return text.encode("latin-1")

    def _make_scalar(self, dtype: PickledDtype, data: bytes) -> object:
        if dtype.dtype.hasobject or len(data) != dtype.dtype.itemsize:
            raise ForbiddenObject("an unusual array scalar")
        self.spend(len(data) // CHARACTERS_A_VALUE)
        return np.frombuffer(data, dtype=dtype.dtype, count=1)[0]


def _limit_step(code: int, step: Callable[[PlainUnpickler], None]) -> Callable[[PlainUnpickler], None]:
    """Return a step of the unpickler that is counted, and whose keys and arguments are checked before it is taken."""
    keys = {"s": slice(-2, -1), "u": slice(0, None, 2), "d": slice(0, None, 2), "\x90": slice(None), "\x91": slice(None)}.get(chr(code))
    cost = 2 if code in pickle.EMPTY_SET else 1  # an empty set takes as much memory as two other values
    has_arguments = code in pickle.REDUCE

    def take_step(self: PlainUnpickler) -> None:
        self.spend(cost)
        if keys is not None:
            _check_keys(self.stack[keys])
        if has_arguments and isinstance(self.stack[-1], tuple):
            self.spend(len(self.stack[-1]))
        step(self)

    return take_step


def _refuse_step(self: PlainUnpickler) -> None:
    raise ForbiddenObject("a writable or foreign buffer")


# bytearray and buffers: the first takes the memory that the file claims, before it is there
REFUSED = {code[0]: _refuse_step for code in (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)}
PlainUnpickler.dispatch = {code: _limit_step(code, step) for code, step in pickle._Unpickler.dispatch.items()} | REFUSED


def _check_keys(keys: list[Any]) -> list[Any]:
    """Raise ForbiddenObject unless all are texts or numbers: the hash of nested tuples may take for ever, or overflow the stack."""
    for key in keys:
        if not isinstance(key, KEY_TYPES):
            raise ForbiddenObject(f"a {type(key).__name__} as a key")
    return keys


class PickledDtype:
    """An array type as a pickle describes it: a plain one with a byte order, never one with fields."""

    def __init__(self, text: str, *_: object) -> None:
        if not isinstance(text, str) or not PLAIN_DTYPE.fullmatch(text):
            raise ForbiddenObject(f"the array type {quote(text)}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        """Take the byte order, and refuse a type with fields."""
        if not isinstance(state, tuple) or len(state) > 10:
            raise ForbiddenObject("an array type with fields")
        _, order, *fields = state
        if order not in ("<", ">", "=", "|") or any(field is not None for field in fields[:3]):
            raise ForbiddenObject("an array type with fields")
        if order in "<>":
            self.dtype = self.dtype.newbyteorder(order)


class PickledArray:
    """An array as a pickle describes it: its shape, and its elements as bytes or, for objects, as a list."""

    def __init__(self, spend: Spend) -> None:
        self.value = np.empty(0, dtype=np.int8)
        self.spend = spend

    def __setstate__(self, state: tuple) -> None:
        """Build the array; NumPy checks that the shape fits the elements."""
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, PickledDtype):
            raise ForbiddenObject("an array of an unusual type")
        if dtype.dtype.hasobject:
            self.spend(len(data))
            flat = np.empty(len(data), dtype=object)
            for place, element in enumerate(data):  # a slice assignment would unpack lists of equal length
                flat[place] = element
            self.value = flat.reshape(_check_shape(shape))  # NumPy lists objects in C order whatever the array's own is
        else:
            _fill(self, data, dtype, shape, "F" if is_fortran else "C")


def resolve_plain(value: Any, known: dict[int, Measured | None], depth: int = 0) -> Measured:
    """Return `value` with every PickledArray replaced by its array, at any depth; what is shared stays shared.

    `known` holds what has been resolved by identity, None for what is being resolved.
    """
    if isinstance(value, str | bytes):
        return value, 0, 1 + len(value) // CHARACTERS_A_VALUE
    if isinstance(value, PLAIN_TYPES):
        return value, 0, 1
    if id(value) not in known:
        if depth >= MAX_DEPTH:
            raise Unreasonable(f"is nested deeper than the allowed {MAX_DEPTH} levels")
        known[id(value)] = None
        known[id(value)] = _resolve_container(value, known, depth + 1)
    resolved = known[id(value)]
    if resolved is None:
        raise Unreasonable("holds an object that holds itself")
    return resolved


def _resolve_container(value: Any, known: dict[int, Measured | None], depth: int) -> Measured:
    if isinstance(value, PickledArray):
        array = value.value
        if not array.dtype.hasobject:
            return array, 0, 1 + array.size + array.nbytes // CHARACTERS_A_VALUE
        parts = [resolve_plain(element, known, depth) for element in array.flat]
        for place, (element, _, _) in zip(np.ndindex(array.shape), parts, strict=True):
            array[place] = element
        return array, *_measure(parts)
    if isinstance(value, dict):
        parts = [resolve_plain(item, known, depth) for item in value.values()]
        keys = [resolve_plain(key, known, depth) for key in value]
        return {key: item for key, (item, _, _) in zip(value, parts, strict=True)}, *_measure([*parts, *keys])
    if isinstance(value, list | tuple | set):
        parts = [resolve_plain(item, known, depth) for item in value]
        return type(value)(item for item, _, _ in parts), *_measure(parts)
    raise ForbiddenObject(f"a {type(value).__name__}")


def _measure(parts: Iterable[Measured]) -> tuple[int, int]:
    """Return depth and size of a container from those of its parts."""
    depth, size = 1, 1
    for _, part_depth, part_size in parts:
        depth, size = max(depth, part_depth + 1), size + part_size
    if depth > MAX_DEPTH:
        raise Unreasonable(f"is nested deeper than the allowed {MAX_DEPTH} levels")
    if size > MAX_VALUES:
        raise Unreasonable(f"stands for more than the allowed {MAX_VALUES:,} values")
    return depth, size


def _fill(array: PickledArray, data: bytes, dtype: PickledDtype, shape: tuple[int, ...], order: str) -> PickledArray:
    if dtype.dtype.hasobject:
        raise ForbiddenObject("an array of objects in a buffer")
    array.value = np.frombuffer(data, dtype=dtype.dtype).reshape(_check_shape(shape), order=order)
    return array


def _check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape; (1000000000000, 0) would take no memory, but time."""
    if math.prod(length for length in shape if length) > MAX_VALUES:
        raise Unreasonable(f"claims the shape {quote(shape)}")
    return shape


def _refuse_call(*_: object) -> None:
    raise ForbiddenObject("an array that is made directly")
