"""Fetching missing images, with a fake network. Run: python -m pytest tests/pipeline/data/test_fetch.py"""

from __future__ import annotations

import csv
import io
import threading
import urllib.error
from collections import Counter
from pathlib import Path

import pytest

from pipeline.data import fetch
from pipeline.data.fetch import DeadUrl, HostBusy, Wanted, download_politely, fetch_images, read_wanted
from tests.broken_items import draw_halves, save_image

GOOD = save_image(draw_halves("red"))


class FakeHost:
    """Answers like urlopen: bytes, or an HTTP status that is raised; counts what it was asked."""

    def __init__(self, *answers: bytes | int | Exception, retry_after: str | None = None) -> None:
        self.answers, self.asked, self.slept, self.retry_after = list(answers), [], [], retry_after

    def __call__(self, request, timeout: float):
        self.asked.append((request.full_url, request.get_header("User-agent"), timeout))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            raise urllib.error.HTTPError(request.full_url, answer, "no", headers, None)
        return io.BytesIO(answer)

    def download(self, url: str = "https://example.org/a.jpg") -> bytes:
        return download_politely(url, opener=self, sleep=self.slept.append)


def test_a_busy_host_is_waited_for_as_long_as_it_asks_and_then_asked_again() -> None:
    host = FakeHost(429, 503, GOOD, retry_after="7")
    assert host.download() == GOOD
    assert host.slept == [7.0, 7.0, fetch.PAUSE]
    assert all(agent == fetch.USER_AGENT for _, agent, _ in host.asked)


def test_a_host_that_stays_busy_or_asks_for_too_long_is_left_for_another_time() -> None:
    for host, asked in ((FakeHost(503, 503, 503), 3), (FakeHost(429, retry_after="3600"), 1), (FakeHost(*[OSError("reset")] * 3), 3)):
        with pytest.raises(HostBusy):
            host.download()
        assert len(host.asked) == asked


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_dead_url_is_asked_once(status: int) -> None:
    host = FakeHost(status)
    with pytest.raises(DeadUrl, match=str(status)):
        host.download()
    assert len(host.asked) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a.jpg", "data:image/png;base64,xx", "a.jpg"])
def test_only_the_web_is_asked(url: str) -> None:
    host = FakeHost(GOOD)
    with pytest.raises(DeadUrl, match="only http and https"):
        host.download(url)
    assert not host.asked


def write_missing(path: Path, rows: list[tuple[str, Path, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "text", "path", "url", "hint", "reason"])
        writer.writerows([item_id, "", str(image), url, "", "gone"] for item_id, image, url in rows)
    return path


def test_a_second_run_asks_only_for_what_is_missing_and_not_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    answers = {"http://h/0": GOOD, "http://h/1": b"<html>", "http://h/2": DeadUrl("404"), "http://h/3": HostBusy("503"), "http://h/4": GOOD}
    asked: Counter[str] = Counter()

    def download(url: str) -> bytes:
        asked[url] += 1
        if isinstance(answers[url], Exception):
            raise answers[url]
        return answers[url]

    raw = tmp_path / "raw"
    rows = [(str(n), raw / "images" / f"{n}.jpg", f"http://h/{n}") for n in range(5)] + [("5", raw / "images" / "5.jpg", "")]
    missing = write_missing(tmp_path / "missing.csv", rows)
    (tmp_path / "params.yaml").write_text(f"dataset:\n  raw: {raw}\n")
    monkeypatch.setattr(fetch, "download_politely", download)
    for _ in range(2):
        fetch.main(missing, tmp_path / "params.yaml")
    assert asked == {"http://h/0": 1, "http://h/1": 1, "http://h/2": 1, "http://h/3": 2, "http://h/4": 1}
    assert sorted(path.name for path in (raw / "images").iterdir()) == ["0.jpg", "4.jpg"]
    assert "2 new images, 2 dead URLs" in capsys.readouterr().out
    assert len((tmp_path / "dead_urls.csv").read_text().splitlines()) == 3


def test_a_list_of_another_data_set_is_refused(tmp_path: Path) -> None:
    missing = write_missing(tmp_path / "missing.csv", [("a", tmp_path / "raw" / ".." / "elsewhere" / "a.jpg", "http://h/a")])
    with pytest.raises(ValueError, match=r"which is not inside of .*writes the list anew"):
        read_wanted(missing, tmp_path / "raw", [])


def test_no_host_sees_more_connections_than_allowed(tmp_path: Path) -> None:
    open_now: Counter[str] = Counter()
    most: Counter[str] = Counter()
    lock, full = threading.Lock(), threading.Barrier(2 * fetch.PER_HOST)

    def download(url: str) -> bytes:
        host = url.split("/")[2]
        with lock:
            open_now[host] += 1
            most[host] = max(most[host], open_now[host])
        full.wait(timeout=10)  # passes only while both hosts have all of their connections open
        with lock:
            open_now[host] -= 1
        return GOOD

    wanted = [Wanted(f"{n}", tmp_path / f"{n}.png", f"http://host{n % 2}/{n}") for n in range(8 * fetch.PER_HOST)]
    num_new, dead, num_busy = fetch_images(wanted, download=download)
    assert (num_new, dead, num_busy) == (len(wanted), {}, 0)
    assert most == {"host0": fetch.PER_HOST, "host1": fetch.PER_HOST}
