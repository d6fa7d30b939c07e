"""The page in a real browser, a narrow and a wide one. Run: python -m pytest tests/pipeline/demo/test_browser.py -m slow"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pipeline.demo.studio import Studio
from tests.pipeline.study.browser import CHROMIUM, Browser

pytest.importorskip("gradio", reason="gradio is not installed: make setup EXTRAS=demo")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

FRAMED = "[...document.querySelectorAll('.history .retrieved')].map(one => one.dataset.item).join()"
SHOWN_K = "document.querySelector('.answer')?.dataset.k"


@pytest.fixture
def address(studio: Studio) -> Iterator[str]:
    from pipeline.demo.server import bind, build_server, keep_uploads

    with bind("127.0.0.1", 0) as taken, keep_uploads():
        server = build_server(studio, "127.0.0.1")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(tmp_path / "browser")
    yield opened
    opened.close()


def move_k(browser: Browser, k: int) -> None:
    """Type a k, and leave the field."""
    browser.tap("#k input[type=number]")
    browser.run("document.querySelector('#k input[type=number]').select()")
    browser.write(str(k))
    browser.press("Tab")


@pytest.mark.parametrize("width", [375, 1280])
def test_a_person_sees_the_pictures_and_moves_k(studio: Studio, address: str, browser: Browser, width: int, tmp_path: Path) -> None:
    browser.open_url(address, width=width, touch=width < 700)
    browser.wait(lambda: browser.run(SHOWN_K) == str(studio.run.retrieval.k))
    framed = browser.run(FRAMED).split(",")
    assert len(framed) == studio.run.retrieval.k
    assert browser.run("document.querySelectorAll('.drawn img').length") == 3
    assert browser.run("[...document.querySelectorAll('.answer img')].every(one => one.naturalWidth > 0)")
    browser.photograph(tmp_path / "before.png")
    move_k(browser, 2)
    browser.wait(lambda: browser.run(SHOWN_K) == "2")
    assert browser.run(FRAMED).split(",") == [item_id for item_id in framed if item_id in browser.run(FRAMED)]
    assert browser.run(FRAMED).count(",") == 1
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.photograph(tmp_path / "after.png")
    assert {urlsplit(url).netloc for url in browser.asked if url.startswith("http")} == {urlsplit(address).netloc}
    assert browser.complaints == []
