"""What came of one image: its size, its compression, and whether it is one. Run: python -m pytest tests/pipeline/data/fetch/test_body.py"""

from __future__ import annotations

import gzip
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image

from pipeline.data.fetch import download
from pipeline.data.fetch.download import _read_body
from pipeline.data.fetch.failures import Busy, Dead, Later
from tests.broken_items import save_image
from tests.web import FakeNetwork, make_downloader, ok

GOOD = save_image(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)))
URL = "http://a.org/a.png"


def test_a_file_that_says_it_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    network = FakeNetwork([b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", 1e9])
    with pytest.raises(Dead, match="larger than the allowed 1,000 bytes"):
        make_downloader(network).download(URL)
    assert network.time.now < 1001


def test_a_file_that_is_too_large_without_saying_so_is_read_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    network = FakeNetwork([b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 600, b"x" * 600, 1e9])
    with pytest.raises(Dead, match="larger than the allowed 1,000 bytes"):
        make_downloader(network).download(URL)
    assert network.time.now < 1001


def test_a_compressed_body_is_bounded_after_decompression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", len(GOOD) + 100)
    for data, name in ((gzip.compress(GOOD), "gzip"), (zlib.compress(GOOD), "deflate")):
        network = FakeNetwork(ok(data, f"Content-Encoding: {name}"))
        assert make_downloader(network).download(URL) == GOOD
        assert b"Accept-Encoding: identity\r\n" in network.sent
    bomb = gzip.compress(b"\0" * 3_000_000)
    assert len(bomb) < len(GOOD)
    with pytest.raises(Dead, match="larger than the allowed"):
        make_downloader(FakeNetwork(ok(bomb, "Content-Encoding: gzip"))).download(URL)
    with pytest.raises(Dead, match="compresses the file, though asked not to .br"):
        make_downloader(FakeNetwork(ok(GOOD, "Content-Encoding: br"))).download(URL)
    with pytest.raises(Busy, match="cut off"):
        make_downloader(FakeNetwork(*[ok(gzip.compress(GOOD)[:-9], "Content-Encoding: gzip")] * 3)).download(URL)


def deflate_without_a_head(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(GOOD[:500]) + gzip.compress(GOOD[500:]), "gzip"),
        (gzip.compress(GOOD) + b"\0" * 8, "x-gzip"),
        (deflate_without_a_head(GOOD), "deflate"),
        (GOOD, "gzip"),  # a header that is wrong
        (GOOD, "deflate"),
        (GOOD, "none"),
        (GOOD, "utf-8"),
        (GOOD, "aws-chunked"),
        (save_image(Image.new("RGB", (40, 40)), "JPEG"), "deflate"),
    ],
)
def test_what_a_browser_can_read_in_spite_of_its_encoding_is_read(body: bytes, encoding: str) -> None:
    expected = body if encoding not in ("gzip", "x-gzip", "deflate") or body[:2] in (GOOD[:2], b"\xff\xd8") else GOOD
    assert _read_body(httpx.Response(200, headers={"Content-Encoding": encoding}, stream=httpx.ByteStream(body))) == expected


def test_several_parts_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    network = FakeNetwork(ok(gzip.compress(b"\0" * 600) * 2, "Content-Encoding: gzip"))
    with pytest.raises(Dead, match="larger than the allowed"):
        make_downloader(network).download(URL)


def test_a_smaller_copy_of_a_proxy_counts() -> None:
    network = FakeNetwork([ok(GOOD)[0].replace(b"200 OK", b"203 Non-Authoritative Information")])
    assert make_downloader(network).download(URL) == GOOD


def test_a_page_instead_of_an_image_is_asked_for_another_time() -> None:
    network = FakeNetwork(ok(b"<html>Please log in</html>", "Content-Type: text/html; charset=utf-8"))
    with pytest.raises(Later, match="^a web page came instead of an image$") as error:
        make_downloader(network).download(URL)
    assert not isinstance(error.value, Dead | Busy)
    assert make_downloader(FakeNetwork(ok(GOOD, "Content-Type: text/html"))).download(URL) == GOOD


@pytest.mark.parametrize("body", [b"<html>gone</html>", b"", GOOD[: len(GOOD) // 2]])
def test_what_is_no_usable_image_is_refused(body: bytes) -> None:
    network = FakeNetwork(ok(body))
    with pytest.raises(Dead, match="what came is no usable image"):
        make_downloader(network).download(URL)
    assert len(network.connected) == 1


def test_half_an_image_of_unknown_length_is_asked_for_another_time() -> None:
    with pytest.raises(Later, match="what came is no usable image") as error:
        make_downloader(FakeNetwork([b"HTTP/1.0 200 OK\r\n\r\n" + GOOD[: len(GOOD) // 2]])).download(URL)
    assert not isinstance(error.value, Dead | Busy)
