"""The page in a real browser, a narrow and a wide one. Run: python -m pytest tests/pipeline/demo/test_browser.py -m slow"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from pipeline.demo.studio import Studio
from tests.pipeline.draw.toy_run import ToyRun
from tests.pipeline.study.browser import CHROMIUM, Browser

pytest.importorskip("gradio", reason="gradio is not installed: make setup EXTRAS=demo")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

TOPS = "[...document.querySelectorAll('.drawn .method img')].map(one => one.getBoundingClientRect().top)"  # side by side: one height
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
    assert len(set(browser.run(TOPS))) == 1
    move_k(browser, 2)
    browser.wait(lambda: browser.run(SHOWN_K) == "2")
    assert browser.run(FRAMED).split(",") == [item_id for item_id in framed if item_id in browser.run(FRAMED)]
    assert browser.run(FRAMED).count(",") == 1
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert {urlsplit(url).netloc for url in browser.asked if url.startswith("http")} == {urlsplit(address).netloc}
    assert browser.complaints == []


def send_upload(browser: Browser, path: Path) -> None:
    """Choose a file, as a person does in the dialogue of their system."""
    document = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=document, selector="#upload input[type=file]")["nodeId"]
    browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def test_what_cannot_be_drawn_is_a_sentence_and_the_page_goes_on(address: str, browser: Browser, tmp_path: Path) -> None:
    browser.open_url(address, width=1280)
    browser.wait(lambda: browser.run(SHOWN_K))
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    send_upload(browser, tmp_path / "broken.png")
    browser.wait(lambda: browser.run("document.querySelector('#upload').innerText.includes('broken')"))
    browser.tap("#draw")
    browser.wait(lambda: browser.run("document.querySelector('.refusal')?.innerText"))
    assert browser.run("document.querySelector('.refusal').innerText").startswith("The image upload cannot be used: ")
    browser.tap("#upload button[aria-label='Remove this file'], #upload button[aria-label='Clear']")
    browser.wait(lambda: not browser.run("document.querySelector('#upload').innerText.includes('broken')"))
    browser.tap("#draw")
    browser.wait(lambda: browser.run(SHOWN_K))


def test_only_names_of_this_machine_are_answered_and_nothing_may_be_fetched_from_elsewhere(address: str) -> None:
    with httpx.Client() as client:
        page = client.get(address)
        assert (page.status_code, client.get(address, headers={"Host": "elsewhere.example"}).status_code) == (200, 400)
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]


def test_a_port_that_is_taken_is_a_sentence(address: str) -> None:
    from pipeline.demo.server import bind

    with pytest.raises(ValueError, match=r"the demo cannot listen at 127\.0\.0\.1:\d+ \(Address already in use\); choose another --port"):
        bind("127.0.0.1", urlsplit(address).port)


HOSTILE = "pot ${document.title = 'changed'} {{k}} <img src=x onerror=\"document.title = 'changed'\">"


@pytest.fixture
def hostile(toy: ToyRun) -> ToyRun:
    """Let the reference's text be one that a template or a browser might run."""
    for item in toy.items:
        item["text"] = HOSTILE
    toy.write_tables()
    return toy


def test_texts_of_the_data_are_shown_as_they_are(hostile: ToyRun, address: str, browser: Browser) -> None:
    browser.open_url(address, width=1280)
    browser.wait(lambda: browser.run(SHOWN_K))
    assert browser.run("document.querySelector('.drawn figcaption span').textContent") == HOSTILE
    assert browser.run("document.title") == "RAGAR demo"
