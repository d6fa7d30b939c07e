"""Files that nobody has checked: is the path a file, is it inside of the folder, and the lines of official text formats.

Official formats are UTF-8 without NUL or byte order mark; what people have made is read by `tables.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.data.problems import DataError, Problems

MAX_LINE_BYTES = 16 * 1024 * 1024  # of a text line; POG's longest click list has far less
MAX_TEXT_CHARS = 10_000  # of one field; a longer title is no title
MAX_NAME_BYTES = 250  # of a file's name; file systems allow 255
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def require_file(path: Path) -> Path:
    """Return `path`; DataError if it is absent or a folder."""
    if path.is_dir():
        raise DataError(f"{path} is a folder, but a file must be there.")
    if not path.is_file():
        raise DataError(f"{path} does not exist; the README's section on the data set says where it comes from.")
    return path


def require_folder(path: Path) -> Path:
    """Return `path`; DataError if it is absent or a file."""
    if path.is_file():
        raise DataError(f"{path} is a file, but a folder must be there.")
    if not path.is_dir():
        raise DataError(f"{path} does not exist; the README's section on the data set says what belongs there.")
    return path


def find_folder(parent: Path, name: str) -> Path:
    """Return the folder of a name, or the only one of that name in another case; DataError if there is none."""
    exact = parent / name
    others = [path for path in parent.iterdir() if path.name.casefold() == name.casefold() and path.is_dir()]
    return require_folder(exact if exact.exists() or len(others) != 1 else others[0])


def read_lines(path: Path, problems: Problems, *, whole: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its end); lines with NUL bytes are problems and left out. Memory is bounded by MAX_LINE_BYTES.

    `whole`: the format ends every line with a line break, so a last line without one was cut off.
    """
    with require_file(path).open("rb") as file:
        _refuse_byte_order_mark(path, file.read(3))
        file.seek(0)
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if line[-1:] == b"\n":
                line = line[:-2] if line[-2:-1] == b"\r" else line[:-1]
            elif len(line) == MAX_LINE_BYTES:
                raise DataError(f"{path}, line {number:,}: the line is longer than the allowed {MAX_LINE_BYTES:,} bytes.")
            elif whole:
                problems.add(path, number, "the file ends in the middle of a line, so a part of it is missing.")
            if b"\0" in line:
                problems.add(path, number, "the line holds NUL bytes, so this is no text file, or a damaged one.")
                continue
            yield number, line
    if not number:
        problems.add(path, None, "the file is empty.")


def decode_text(line: bytes, path: Path, number: int, problems: Problems) -> str:
    """Decode UTF-8; bytes that are none are a problem and become replacement characters."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = line[error.start : error.start + 1].hex()
        problems.add(path, number, f"byte {error.start + 1} (0x{bad}) is not UTF-8; save the whole file in the encoding UTF-8.")
        return line.decode("utf-8", errors="replace")


def is_utf8(line: bytes, path: Path, number: int, problems: Problems) -> bool:
    """Say whether a line is UTF-8; if not, that is a problem."""
    before = problems.count
    decode_text(line, path, number, problems)
    return problems.count == before


def resolve_inside(folder: Path, name: str) -> Path | None:
    """Return `folder / name`, or None if the name would leave the folder (absolute, `..`) or cannot be a path."""
    parts = Path(name).parts
    if not parts or "\0" in name or Path(name).is_absolute() or ".." in parts or max(len(part.encode()) for part in parts) > MAX_NAME_BYTES:
        return None
    return folder / name


def _refuse_byte_order_mark(path: Path, start: bytes) -> None:
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            raise DataError(f"{path}, line 1: the file starts with a {encoding} byte order mark; save it as UTF-8 without BOM.")


def check_length(values: dict[str, str], path: Path, number: int, problems: Problems) -> dict[str, str]:
    """Return a row's values, cut to MAX_TEXT_CHARS; a longer one is a problem."""
    for name, value in values.items():
        if len(value) > MAX_TEXT_CHARS:
            problems.add(path, number, f"`{name}` has {len(value):,} characters, more than the allowed {MAX_TEXT_CHARS:,}.")
            values[name] = value[:MAX_TEXT_CHARS]
    return values
