"""The official tokenizer's file, `tokenizer.model`, without the library that wrote it: the pieces of a SentencePiece model of byte pairs.

The file is a protocol buffer. Of it only the pieces (field 1: text 1, kind 3) and the kind of model (field 2: 3) are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 32 * 2**20  # the official one has 0.5 MB
BYTE_PAIRS = 2  # the kind of model; 1, the format's default, is a unigram model
VARINT, EIGHT_BYTES, COUNTED, FOUR_BYTES = 0, 1, 2, 5  # how a field is written


def read_pieces(path: Path) -> list[str]:
    """Return the pieces in the order of their ids; ValueError if this is no SentencePiece model of byte pairs."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than the allowed {MAX_BYTES:,} bytes")
    pieces, kind = [], 1
    try:
        for field, value in iterate_fields(path.read_bytes()):
            if field == 1 and isinstance(value, bytes):
                pieces.append(dict(iterate_fields(value))[1].decode())
            elif field == 2 and isinstance(value, bytes):
                kind = dict(iterate_fields(value)).get(3, kind)
    except (IndexError, KeyError, AttributeError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"{path} is no SentencePiece model; copy it again from the official weights") from error
    if kind != BYTE_PAIRS or len(set(pieces)) != len(pieces) or not pieces:
        raise ValueError(f"{path} is no SentencePiece model of byte pairs; copy it again from the official weights")
    return pieces


def iterate_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message: whole numbers, and bytes of all else; IndexError if it is cut off or written otherwise."""
    place = 0
    while place < len(data):
        tag, place = read_varint(data, place)
        if tag & 7 == VARINT:
            value, place = read_varint(data, place)
            yield tag >> 3, value
            continue
        length, place = read_varint(data, place) if tag & 7 == COUNTED else ({EIGHT_BYTES: 8, FOUR_BYTES: 4}.get(tag & 7, len(data) + 1), place)
        if place + length > len(data):
            raise IndexError(place)
        yield tag >> 3, data[place : place + length]
        place += length


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, the lowest first, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        value, place, shift = value | (byte & 0x7F) << shift, place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise OverflowError(place)
