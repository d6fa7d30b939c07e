"""Which encoding a text file is in: said by a byte order mark, UTF-8, or found by charset-normalizer; DataError where it cannot be told.

Of a file that is no UTF-8, charset-normalizer says what its bytes may be. Among those that look equally well, Western European
(cp1252, which holds all of latin-1) is taken before Central European (cp1250), and both before what would mix scripts within a word
(`niсo` with a Cyrillic letter). If texts of several scripts remain, the file is refused and the sentence shows them.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path
from typing import BinaryIO

from pipeline.data.file_kinds import name_kind
from pipeline.data.problems import DataError, Problems, quote
from pipeline.data.values import clean_value

BYTE_ORDER_MARKS = {  # UTF-32's begins as UTF-16's does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
STRAY = "stray"  # how bytes that are no UTF-8 are decoded in a text that is
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
CANDIDATES = ["cp1252", "cp1250", "cp1251", "cp1253", "koi8_r", "gb18030", "big5", "cp932", "euc_jp", "cp949"]
LATIN = ("cp1252", "cp1250")  # in this order
SAMPLE_BYTES = 64 * 1024
BLOCK_BYTES = 1024 * 1024
MIN_NUL_FRACTION = 0.05  # of UTF-16 without a byte order mark: every ASCII character has one
WORDS = re.compile(r"[^\W\d_]+")


def find_encoding(path: Path, problems: Problems) -> str:
    """Return the codec that reads the file; a guess is noted. Memory is bounded."""
    with path.open("rb") as file:
        start = file.read(SAMPLE_BYTES)
        if encoding := find_marked(start):
            return encoding
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block := file.read(BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
            return "utf-8"
        except UnicodeDecodeError:
            file.seek(0)
            sample, is_damaged = sample_lines(file)
    if is_damaged:  # most of it is UTF-8: the reader names the others
        return "utf-8"
    encoding = guess_encoding(sample, path)
    example = quote(find_odd_word(sample.decode(encoding, errors="replace")))
    problems.note(path, f"the file is not UTF-8 and is read as {encoding}, e.g. {example}; if that is wrong, save it as UTF-8.")
    return encoding


def read_short_text(path: Path, *, max_bytes: int) -> str:
    """Return the start of a small text file, without space around it; empty if it says no more than a word for "missing".

    Control characters, NUL and Ctrl-Z among them, are no part of it.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes)
    if kind := name_kind(data):
        raise DataError(f"{path} is {kind}, but it must be a plain text; save it as one, in the encoding UTF-8.")
    is_valid = is_encoding(data, "utf-8")
    num_valid, num_invalid = count_characters(data)
    encoding = find_marked(data) or ("utf-8" if is_valid or num_valid > num_invalid else guess_encoding(data, path))
    errors = "replace" if is_valid else STRAY
    text = codecs.getincrementaldecoder(encoding)(errors=errors).decode(data)  # which drops a character that was cut at the end
    return clean_value(CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def decode_stray(error: UnicodeError) -> tuple[str, int]:
    """Take bytes that are no UTF-8 among others that are as cp1252: quotation marks that were pasted from an old text."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", errors="replace"), error.end


codecs.register_error(STRAY, decode_stray)


def count_characters(data: bytes) -> tuple[int, int]:
    """Return how many characters beyond ASCII are UTF-8, and how many bytes are not."""
    others = [char for char in data.decode("utf-8", errors="surrogateescape") if not char.isascii()]
    num_invalid = sum("\udc80" <= char <= "\udcff" for char in others)
    return len(others) - num_invalid, num_invalid


def find_marked(start: bytes) -> str | None:
    """Return the encoding that a byte order mark, or UTF-16's many NUL bytes, give away."""
    marked = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    if marked or start.count(0) < MIN_NUL_FRACTION * len(start) or b"\0" not in start:
        return marked
    for encoding, place in (("utf-16-le", 1), ("utf-16-be", 0)):
        if start[place::2].count(0) == start.count(0) and is_encoding(start, encoding):
            return encoding
    return None


def is_encoding(data: bytes, encoding: str) -> bool:
    """Say whether bytes that may be cut at the end are of an encoding."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def sample_lines(file: BinaryIO) -> tuple[bytes, bool]:
    """Return the first lines that are not UTF-8, and whether most lines, or most characters, beyond ASCII are."""
    sample, lines, characters = b"", 0, 0  # how many more are UTF-8 than not
    while line := file.readline(BLOCK_BYTES):
        if not line.isascii():
            num_valid, num_invalid = count_characters(line)
            characters += num_valid - num_invalid
            lines += -1 if num_invalid else 1
            sample += line[: max(0, SAMPLE_BYTES - len(sample))] if num_invalid else b""
    return sample, lines > 0 or characters > 0


def guess_encoding(data: bytes, path: Path) -> str:
    """Return the most plausible encoding of bytes that are not UTF-8; DataError if there is none, or several of different scripts."""
    import charset_normalizer

    matches = list(charset_normalizer.from_bytes(data, cp_isolation=CANDIDATES))
    ranks = [(match.chaos, -match.coherence) for match in matches]  # how odd it looks, and how much like a language
    best = [match for match, rank in zip(matches, ranks, strict=True) if rank == min(ranks)]
    names = {name: codecs.decode(data, name, errors="ignore") for match in best for name in (match.encoding, *match.could_be_from_charset)}
    texts = {name: text for name, text in names.items() if name in CANDIDATES}
    plausible = {name: text for name, text in texts.items() if not mixes_scripts(text)} or texts
    latin = [name for name in LATIN if name in plausible]
    if latin and set(plausible) <= set(LATIN):
        return latin[0]
    if len(set(plausible.values())) == 1:
        return min(plausible, key=CANDIDATES.index)
    shown = " or ".join(f"{quote(find_odd_word(text))} ({name})" for name, text in sorted(plausible.items())[:3])
    raise DataError(f"{path}: the file is not UTF-8, and its encoding cannot be told{f'; it may say {shown}' if shown else ''}; save it as UTF-8.")


def mixes_scripts(text: str) -> bool:
    """Say whether a word has ASCII letters beside letters of another script than the Latin one."""
    return any(not word.isascii() and re.search("[A-Za-z]", word) and not all(is_latin(char) for char in word) for word in WORDS.findall(text))


def is_latin(char: str) -> bool:
    """Say whether a letter is of the Latin script."""
    return unicodedata.name(char, "").startswith("LATIN")


def find_odd_word(text: str) -> str:
    """Return the first word that is not plain ASCII."""
    return next((word for word in WORDS.findall(text) if not word.isascii()), text.strip())
