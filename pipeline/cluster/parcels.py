"""How what a map computes with travels to a worker: functions with all that they have captured, and models as the call that loads them.

What a worker keeps travels once and by number: one object of the driver is one object of each worker, whichever maps it is met in. That are
models that are loaded late, models that are loaded already (`remember_call`), and whatever says `KEPT_BY_WORKERS = True` of its class. A worker
loads a model itself, from its own cache or from shared storage; weights are never sent.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Mapping
from functools import _lru_cache_wrapper, cache, wraps
from typing import Any, NamedTuple, TypeVar

CHANGES_NO_RESULT = True
T = TypeVar("T")
KEPT = "KEPT_BY_WORKERS"
CALL = "loading_call"


class Call(NamedTuple):
    """A model in a parcel: what loads it."""

    load: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]


def remember_call(load: Callable[..., T]) -> Callable[..., T]:
    """Let the models that `load` returns travel as the call that has loaded them."""

    @wraps(load)
    def remembering(*args: Any, **options: Any) -> T:
        model = load(*args, **options)
        object.__setattr__(model, CALL, Call(remembering, args, options))
        return model

    return remembering


def forget_call(model: object) -> None:
    """Note that a model is no longer what was loaded: from now on it travels with its weights."""
    if hasattr(model, CALL):
        object.__delattr__(model, CALL)


class Packer:
    """Packs on the driver; `put` stores bytes where workers find them and returns what they ask for them with."""

    def __init__(self, put: Callable[[bytes], Any]) -> None:
        self.stored: dict[int, Any] = {}  # what `put` returned for every object that workers keep
        self._put = put
        self._numbers: dict[int, int] = {}  # by id
        self._objects: list[object] = []  # kept alive, so that no id is given again

    def pack(self, value: object, *, whole: object = None) -> bytes:
        """Return the bytes of a value; objects that workers keep stand in them by number, but for `whole`."""
        from ray.cloudpickle import CloudPickler  # late: an extra

        packer = self

        class Pickler(CloudPickler):
            """Pickles functions by value, as Ray does."""

            def persistent_id(self, value: object) -> int | None:
                return packer.number(value) if value is not whole and is_kept(value) else None

            def reducer_override(self, value: Any) -> Any:
                if isinstance(value, _lru_cache_wrapper) and not is_importable(value):
                    return cache, (value.__wrapped__,)
                return super().reducer_override(value)

        buffer = io.BytesIO()
        Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        return buffer.getvalue()

    def number(self, value: object) -> int:
        """Return the number of an object that workers keep, which is stored when it is first met."""
        if id(value) not in self._numbers:
            call = getattr(value, CALL, None)
            stored = self._put(self.pack(value if call is None else call, whole=value))
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
            self.stored[number] = stored
        return self._numbers[id(value)]


class Unpacker:
    """Unpacks on a worker; `get` returns the bytes behind what `put` has returned."""

    def __init__(self, get: Callable[[Any], bytes]) -> None:
        self._get = get
        self._objects: dict[int, object] = {}

    def unpack(self, data: bytes, stored: Mapping[int, Any]) -> Any:
        """Return the value, loading what it needs and is not here yet."""
        unpacker = self

        class Unpickler(pickle.Unpickler):
            """Finds what is kept by its number."""

            def persistent_load(self, number: int) -> object:
                return unpacker.find(number, stored)

        return Unpickler(io.BytesIO(data)).load()

    def find(self, number: int, stored: Mapping[int, Any]) -> object:
        """Return what is kept under a number."""
        if number not in self._objects:
            value = self.unpack(self._get(stored[number]), stored)
            self._objects[number] = value.load(*value.args, **value.options) if isinstance(value, Call) else value
        return self._objects[number]


def is_kept(value: object) -> bool:
    """Say whether a worker keeps an object."""
    return not isinstance(value, type) and (getattr(type(value), KEPT, False) is True or CALL in getattr(value, "__dict__", ()))


def is_importable(function: Any) -> bool:
    """Say whether a function is found under its own name, as one inside of another function is not."""
    return getattr(sys.modules.get(function.__module__), function.__qualname__, None) is function
