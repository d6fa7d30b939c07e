"""What a host sends compressed, though it was asked not to: expanded within a limit, or taken as it is where the header is wrong."""

from __future__ import annotations

import zlib

from pipeline.data.fetch.failures import Busy, Dead

GZIP, DEFLATE = ("gzip", "x-gzip"), "deflate"
UNKNOWN = {"br", "zstd", "compress", "x-compress", "dcb", "dcz"}  # anything else (`none`, `utf-8`, `aws-chunked`) is no compression
CUT_OFF = "the file was cut off on the way"


def expand(body: bytes, encoding: str, *, limit: int) -> bytes:
    """Return what a body with this Content-Encoding stands for; Dead where that cannot be known or is larger than `limit`."""
    encoding = encoding.strip().lower()
    if encoding in UNKNOWN or "," in encoding:
        raise Dead("the host compresses the file, though asked not to", encoding)
    if encoding in GZIP and body[:2] == b"\x1f\x8b":
        return expand_gzip(body, limit)
    if encoding == DEFLATE:
        for kind in (zlib.MAX_WBITS, -zlib.MAX_WBITS):  # zlib's head belongs to it, but old hosts leave it out
            data, is_whole = inflate(body, kind, limit)[:2]
            if is_whole:
                return data
    return body


def expand_gzip(body: bytes, limit: int) -> bytes:
    """Expand all parts of a gzip file; what stands behind them does not matter."""
    data = b""
    while body[:2] == b"\x1f\x8b":
        part, is_whole, body = inflate(body, zlib.MAX_WBITS | 16, limit - len(data))
        if not is_whole:
            raise Busy(CUT_OFF, "gzip without its end")
        data += part
    return data


def inflate(body: bytes, kind: int, limit: int) -> tuple[bytes, bool, bytes]:
    """Return what zlib makes of a body, whether it came to its end, and what stands behind that."""
    inflater = zlib.decompressobj(wbits=kind)
    try:
        data = inflater.decompress(body, limit + 1)
    except zlib.error:
        return b"", False, b""
    if len(data) > limit:
        raise too_large(limit)
    return data, inflater.eof, inflater.unused_data


def too_large(limit: int) -> Dead:
    """Return the failure of a file beyond the limit."""
    return Dead(f"the file is larger than the allowed {limit:,} bytes")
