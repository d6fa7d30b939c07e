"""One image, politely and whole: retries, waits, redirects. Run: python -m pytest tests/pipeline/data/fetch/test_download.py"""

from __future__ import annotations

import email.utils
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pipeline.data.fetch import download
from pipeline.data.fetch.download import Downloader, parse_wait
from pipeline.data.fetch.failures import Busy, Dead, Failure, Later
from tests.broken_items import save_image
from tests.web import FakeNetwork, FakeTime, Web, make_downloader, ok, run_web, status

GOOD = save_image(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)))
URL = "http://a.org/a.png"


@pytest.fixture
def web() -> Iterator[Web]:
    with run_web() as served:
        yield served


def make_local_downloader(time: FakeTime) -> Downloader:
    return Downloader(["127.0.0.1"], sleep=time.sleep)


def test_a_file_that_is_cut_off_is_asked_for_again(web: Web) -> None:
    web.serve("/a.png", GOOD[:-20], length=len(GOOD))
    url, time = web.serve("/a.png", GOOD), FakeTime()
    assert make_local_downloader(time).download(url) == GOOD
    assert web.asked == ["/a.png", "/a.png"]
    assert time.slept == [download.PAUSE, 1.0, download.PAUSE]


def test_a_file_that_is_always_cut_off_is_never_kept_half(web: Web) -> None:
    url, time = web.serve("/a.png", GOOD[:-20], length=len(GOOD)), FakeTime()
    with pytest.raises(Busy, match="the file was cut off on the way"):
        make_local_downloader(time).download(url)
    assert web.asked == ["/a.png"] * 3
    assert time.slept == [download.PAUSE, 1.0, download.PAUSE, 2.0, download.PAUSE]


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("/my pic.png", "/my%20pic.png"),
        ("/ni\u00f1o.png", "/ni%C3%B1o.png"),
        ("/a%20b.png", "/a%20b.png"),
        ("/100%.png?q=a b", "/100%25.png?q=a%20b"),
    ],
)
def test_a_url_with_a_space_or_a_letter_beyond_ascii_is_fetched(web: Web, written: str, asked: str) -> None:
    web.serve(asked, GOOD)
    assert make_local_downloader(FakeTime()).download(f"{web.url}{written}") == GOOD
    assert web.asked == [asked]


@pytest.mark.parametrize("code", [204, 206, 301, 304, 400, 401, 403, 404, 410, 451, 501])
def test_a_permanent_answer_is_asked_for_once_and_nobody_waits(code: int) -> None:
    network = FakeNetwork(status(code))
    with pytest.raises(Dead, match=rf"^the host answers {code}$"):
        make_downloader(network).download(URL)
    assert (len(network.connected), network.time.slept) == (1, [download.PAUSE])


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 507, 520, 522, 530, 599])
def test_a_busy_host_is_asked_three_times_with_growing_pauses(code: int) -> None:
    network = FakeNetwork(*[status(code)] * 9)
    with pytest.raises(Busy, match=rf"^the host answers {code}$"):
        make_downloader(network).download(URL)
    assert network.time.slept == [0.1, 1.0, 0.1, 2.0, 0.1]


def test_a_host_is_waited_for_as_long_as_it_asks() -> None:
    network = FakeNetwork(status(429, "Retry-After: 7"), status(503, "Retry-After: nonsense"), ok(GOOD))
    assert make_downloader(network).download(URL) == GOOD
    assert network.time.slept == [0.1, 7.0, 0.1, 2.0, 0.1]


def test_a_host_that_asks_for_too_long_is_left_alone_also_by_its_other_files() -> None:
    network = FakeNetwork(status(429, "Retry-After: 3600"), ok(GOOD), ok(GOOD))
    downloader = make_downloader(network)
    with pytest.raises(Busy):
        downloader.download(URL)
    with pytest.raises(Later, match="its host asked to be left alone"):
        downloader.download("http://a.org/b.png")
    assert (len(network.connected), network.time.slept) == (1, [0.1])
    assert downloader.download("http://b.org/a.png") == GOOD
    network.time.now += 3600
    assert downloader.download("http://a.org/b.png") == GOOD


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        (None, 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("²", 0.0),
        ("9" * 5000, 999_999_999.0),
        (email.utils.formatdate(1030.0, usegmt=True), 30.0),
        (email.utils.formatdate(900.0, usegmt=True), 0.0),
        ("Wed, 99 Foo 2024 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str | None, seconds: float) -> None:
    assert parse_wait(text, 1000.0) == seconds


def test_a_host_that_never_answers_is_given_up_after_a_while() -> None:
    network = FakeNetwork(*[["refuse"]] * 100)
    downloader = make_downloader(network)
    outcomes = []
    for n in range(20):
        with pytest.raises(Later) as error:
            downloader.download(f"http://a.org/{n}.png")
        outcomes.append(error.value.cause)
    assert len(network.connected) == download.MAX_FAILURES == 30
    assert outcomes == ["the host cannot be connected to"] * 10 + ["its host failed 30 times in a row and was left alone"] * 10


def test_a_file_has_a_deadline_however_often_a_byte_comes() -> None:
    dripping: list[bytes | float] = [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"]
    for _ in range(1000):
        dripping += [20.0, b"x"]  # within the timeout of a single read
    network = FakeNetwork(dripping)
    with pytest.raises(Later, match=r"the file was not there after 180 s"):
        make_downloader(network).download(URL)
    assert len(network.connected) == 1
    assert 1180 <= network.time.now < 1181


def test_headers_that_drip_meet_the_same_deadline() -> None:
    dripping: list[bytes | float] = [b"HTTP/1.1 200 OK\r\nX: "]
    for _ in range(1000):
        dripping += [20.0, b"x"]
    network = FakeNetwork(dripping)
    with pytest.raises(Later, match=r"the file was not there after 180 s"):
        make_downloader(network).download(URL)
    assert 1180 <= network.time.now < 1181


def test_a_read_that_waits_too_long_is_tried_again() -> None:
    network = FakeNetwork([31.0], ok(GOOD))
    assert make_downloader(network).download(URL) == GOOD
    assert len(network.connected) == 2


def test_redirects_are_followed_with_their_odd_letters(web: Web) -> None:
    web.serve("/a", b"", code=302, Location="/b c")
    web.serve("/b%20c", b"", code=301, Location=f"{web.url}/d.png")
    web.serve("/d.png", GOOD)
    assert make_local_downloader(FakeTime()).download(f"{web.url}/a") == GOOD
    assert web.asked == ["/a", "/b%20c", "/d.png"]


def test_redirects_end(web: Web) -> None:
    url = web.serve("/a", b"", code=302, Location="/a")
    with pytest.raises(Dead, match="redirects more than 5 times"):
        make_local_downloader(FakeTime()).download(url)
    assert web.asked == ["/a"] * 6


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("http://[::1", "no valid URL"),
        ("http://me:x@h/", "a user or a password"),
        ("http://xn--a/", "no valid URL"),
    ],
)
def test_a_redirect_to_what_cannot_be_asked_ends_the_item(target: str, words: str) -> None:
    network = FakeNetwork(status(302, f"Location: {target}"))
    with pytest.raises(Dead, match=words):
        make_downloader(network).download(URL)
    assert len(network.connected) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\x01\x02",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000,
    ],
)
def test_what_is_no_http_ends_the_item(answer: bytes) -> None:
    with pytest.raises(Failure) as error:
        make_downloader(FakeNetwork(*[[answer]] * 3)).download(URL)
    assert error.value.cause in ("what came is no proper HTTP", "the connection broke", download.CUT_OFF)


def test_no_cookie_is_kept(web: Web) -> None:
    cookies: list[str | None] = []

    def answer(handler) -> None:
        cookies.append(handler.headers["Cookie"])
        handler.send_response(200)
        handler.send_header("Set-Cookie", "a=b")
        handler.send_header("Content-Length", str(len(GOOD)))
        handler.end_headers()
        handler.wfile.write(GOOD)

    url, downloader = web.answer("/a", answer), make_local_downloader(FakeTime())
    assert [downloader.download(url) for _ in range(2)] == [GOOD] * 2
    assert cookies == [None, None]
