"""Read `.npy` files that hold pickled Python objects, without ever running what is inside: plain containers, strings, numbers and arrays only.

NumPy's own `allow_pickle=True` runs whatever code the file names; `plain_pickle` reads the same objects and nothing else. What a file
claims about itself (shape, type) is compared with its size before anything is made of it.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.data.plain_pickle import MAX_VALUES, PLAIN_DTYPE, ForbiddenObject, Unreasonable, load_plain
from pipeline.data.problems import DataError, quote
from pipeline.data.raw_files import require_file

MAX_FILE_BYTES = 2 * 1024**3
MAX_PICKLE_BYTES = 256 * 1024**2  # 250,000 windows of six items take 4 MB; a byte of pickle may become 100 in memory


def read_npy(path: Path) -> Any:
    """Return an array, or the plain Python object that was saved as an array of one object; DataError says why a file is refused."""
    if require_file(path).stat().st_size > MAX_FILE_BYTES:
        raise DataError(f"{path}: the file is larger than the allowed {MAX_FILE_BYTES:,} bytes.")
    try:
        with path.open("rb") as file:
            shape, dtype = _read_header(file)
            value = _read_objects(file) if dtype.hasobject else _read_array(file, shape, dtype)
    except ForbiddenObject as error:
        raise DataError(f"{path}: the file wants to load {error}, which is no plain data, so it was not loaded; it may be an attack.") from error
    except Unreasonable as error:
        raise DataError(f"{path}: the file is no readable .npy file: it {error}, so it is damaged or an attack.") from error
    except MemoryError as error:
        raise DataError(f"{path}: the file claims to be larger than the memory, so it is damaged or an attack.") from error
    except Exception as error:  # pickle and NumPy raise many kinds on damaged data
        raise DataError(f"{path}: the file is no readable .npy file ({_first_line(error)}); it may be cut off.") from error
    return value.item() if isinstance(value, np.ndarray) and value.dtype.hasobject and value.shape == () else value


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} is not known")
    shape, _, dtype = read(file)
    return shape, dtype


def _read_objects(file: BinaryIO) -> Any:
    data = file.read(MAX_PICKLE_BYTES + 1)  # in memory, a claimed length can ask for no more than is there
    if len(data) > MAX_PICKLE_BYTES:
        raise Unreasonable(f"holds more than the allowed {MAX_PICKLE_BYTES:,} bytes of objects")
    return load_plain(io.BytesIO(data))


def _read_array(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if not PLAIN_DTYPE.fullmatch(dtype.str) or not dtype.itemsize:
        raise ForbiddenObject(f"an array of the type {quote(dtype)}")
    start = file.tell()
    there = file.seek(0, io.SEEK_END) - start
    if math.prod(shape) * dtype.itemsize > there:
        raise ValueError(f"it claims {math.prod(shape) * dtype.itemsize:,} bytes of elements, but holds {there:,}")
    if math.prod(filter(None, shape)) > max(MAX_VALUES, there):  # (1000000000000, 0) takes no memory, but time
        raise Unreasonable(f"claims the shape {quote(shape)}")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
