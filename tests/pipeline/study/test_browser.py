"""The page in a real browser: whole ballots by touch, mouse and keys. Run: python -m pytest tests/pipeline/study/test_browser.py -m slow"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.study.__main__ import app
from pipeline.study.ballots import read_ballots
from pipeline.study.key import Key
from pipeline.study.page import shorten
from pipeline.study.tasks import MEANING, PERSONALISATION
from pipeline.study.votes import collect_votes
from tests.pipeline.study.browser import CHROMIUM, Browser
from tests.pipeline.study.made import StudyRun
from tests.pipeline.study.test_page import HOSTILE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here: install Chromium (Debian: chromium) to click the page through"),
]
NUM_QUESTIONS = 16
SLOW = 4  # the question over which the participant thinks for a second
SHOWN = "[...document.querySelectorAll('.candidate')].map((button) => button.dataset.picture)"
FOCUS = "document.activeElement.dataset.picture ?? document.activeElement.id"
Act = Callable[[str], None]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    found = Browser(tmp_path / "browser")
    yield found
    found.close()


@pytest.fixture
def page(made_study: Path) -> Path:
    return made_study / "pages" / "group-1.html"


def tab_to(browser: Browser, name: str) -> None:
    """Press Tab until the focus is where it shall be; a page without a way there fails."""
    for _ in range(30):
        if browser.run(FOCUS) == name:
            return
        browser.press("Tab")
    raise AssertionError(f"Tab does not come to {name}")


class Hand:
    """How somebody uses the page: `touch` and `mouse` tap things, `numbers` and `tab` press keys and nothing else."""

    def __init__(self, browser: Browser, kind: str) -> None:
        self.browser, self.kind = browser, kind

    def begin(self, code: str) -> None:
        self.activate("code")
        self.browser.write(code)
        self.browser.press("Enter")

    def activate(self, name: str) -> None:
        """Tap what has an id, or go there and press Enter, which only focuses a field for text."""
        if self.kind in ("touch", "mouse"):
            self.browser.tap(f"#{name}", touch=self.kind == "touch")
            return
        tab_to(self.browser, name)
        if name != "code":
            self.browser.press("Enter")

    def choose(self, picture: str) -> None:
        if self.kind == "numbers":
            self.browser.press(str(self.browser.run(SHOWN).index(picture) + 1))
        elif self.kind == "tab":
            self.browser.run("document.getElementById('question').focus()")
            tab_to(self.browser, picture)
            self.browser.press(" ")
        else:
            self.browser.tap(f"[data-picture='{picture}']", touch=self.kind == "touch")

    def go_on(self) -> None:
        if self.kind == "numbers":
            self.browser.press("Enter")
        else:
            self.activate("next")


def find_question(browser: Browser, key: Key) -> tuple[str, list[str]]:
    """Return the question that is on the screen, and its pictures by an order that a lover of RAGAR has."""
    shown = set(browser.run(SHOWN))
    task = PERSONALISATION if browser.run("document.getElementById('question').textContent") == PERSONALISATION.question else MEANING
    (found,) = (name for name, own in key.groups["1"].items() if own.list_pictures() == shown and own.task == task.name)
    question = key.groups["1"][found]
    if question.is_check:
        return found, [*question.right, *sorted(shown - set(question.right))]
    return found, sorted(shown, key=lambda picture: ("ragar", "pmg", "original").index(question.methods[picture]))


def is_wide(browser: Browser) -> bool:
    """Say whether one has to scroll sideways."""
    return browser.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def read_download(browser: Browser) -> dict[str, Any]:
    browser.wait(lambda: [*browser.downloads.glob("*.json")] and not [*browser.downloads.glob("*.crdownload")])
    (path,) = browser.downloads.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "width"), [("touch", 375), ("mouse", 1280), ("numbers", 1280), ("tab", 1280), ("numbers", 375)])
def test_a_whole_ballot_is_filled_in_survives_reloads_and_counts(browser: Browser, page: Path, key: Key, kind: str, width: int):
    hand = Hand(browser, kind)
    browser.open(page, width=width, touch=kind == "touch")
    assert not is_wide(browser)
    hand.begin("p-7")
    asked = []
    started = time.monotonic()
    for number in range(NUM_QUESTIONS):
        question, order = find_question(browser, key)
        asked.append(question)
        assert browser.run("document.getElementById('count').textContent") == f"{number} of {NUM_QUESTIONS}"
        assert not is_wide(browser)
        hand.choose(order[0])
        if number in (2, 9):  # in the middle of a question
            before = browser.run(SHOWN)
            browser.reload()
            assert (browser.run(SHOWN), find_question(browser, key)[0]) == (before, question)
        for picture in order[1:]:
            hand.choose(picture)
        if number == SLOW:
            time.sleep(1)
        assert browser.run("[...document.querySelectorAll('.candidate')].map((own) => own.querySelector('b').textContent)") == [
            str(order.index(picture) + 1) for picture in browser.run(SHOWN)
        ]
        hand.go_on()
    took = time.monotonic() - started
    assert sorted(asked) == sorted(key.groups["1"])
    assert not browser.run("document.getElementById('end').hidden")
    assert not is_wide(browser)
    browser.reload()
    hand.activate("save")
    ballot = read_download(browser)
    assert ballot == json.loads(browser.run("document.getElementById('ballot').value"))
    assert [answer["question"] for answer in ballot["answers"]] == asked
    seconds = [answer["seconds"] for answer in ballot["answers"]]
    assert seconds[SLOW] >= 1
    assert sum(seconds) <= took + 0.05 * NUM_QUESTIONS  # each is rounded to a tenth

    returned = read_ballots([browser.downloads], key, max_failed=0)
    assert ([own.participant for own in returned.counted], returned.refused, returned.inattentive) == (["p-7"], [], [])
    votes = collect_votes(PERSONALISATION, returned.counted, key)
    assert votes.rank_PCM.mean(axis=(0, 1)).tolist() == [3, 2, 1]  # original, pmg, ragar
    assert collect_votes(MEANING, returned.counted, key).rank_PCM.mean(axis=(0, 1)).tolist() == [2, 1]
    assert browser.complaints == []
    assert {url.partition(":")[0] for url in browser.asked} <= {"file", "data", "blob"}


def begin(browser: Browser, page: Path, code: str) -> Hand:
    hand = Hand(browser, "numbers")
    browser.open(page, width=1280)
    hand.begin(code)
    return hand


def test_a_closed_browser_goes_on_where_it_was(tmp_path: Path, page: Path, key: Key):
    first = Browser(tmp_path / "browser")
    hand = begin(first, page, "p-7")
    _, order = find_question(first, key)
    for picture in order:
        hand.choose(picture)
    hand.go_on()
    question = find_question(first, key)[0]
    first.close()
    again = Browser(tmp_path / "browser")
    again.open(page, width=1280)
    assert find_question(again, key)[0] == question
    assert again.run("document.getElementById('count').textContent") == f"1 of {NUM_QUESTIONS}"
    again.close()


def list_orders(browser: Browser) -> dict[str, list[list[str]]]:
    """Return every question's pictures as they are shown, in the order of the questions."""
    return browser.run("order.map((id) => [id, shuffle(questionOf[id].candidates, id)])")


def test_orders_are_each_participants_own_and_follow_from_the_code(browser: Browser, page: Path, key: Key):
    orders = {}
    for code in ("p-1", "p-2", "p-1", *(f"q-{number}" for number in range(30))):
        begin(browser, page, code)
        own = list_orders(browser)
        assert orders.setdefault(code, own) == own
        browser.run("localStorage.clear(); state = null")
    assert orders["p-1"] != orders["p-2"]
    firsts = {}
    for own in orders.values():
        kinds = [key.groups["1"][question].task for question, _ in own]
        assert kinds in (["personalisation"] * 8 + ["meaning"] * 8, ["meaning"] * 8 + ["personalisation"] * 8)
        firsts[kinds[0]] = firsts.get(kinds[0], 0) + 1
        for question, shown in own:
            method = key.groups["1"][question].methods.get(shown[0])
            if key.groups["1"][question].task == "personalisation" and method:
                firsts[method] = firsts.get(method, 0) + 1
    total = 6 * len(orders)  # cases; a third each, give or take five standard deviations
    assert all(abs(firsts[method] - total / 3) < 5 * (total * 2 / 9) ** 0.5 for method in ("original", "pmg", "ragar"))
    assert min(firsts["personalisation"], firsts["meaning"]) > 5


def test_a_picture_is_taken_back_and_a_question_is_answered_whole_or_asked_again(browser: Browser, page: Path, key: Key):
    hand = begin(browser, page, "p-7")
    places = "[...document.querySelectorAll('.candidate b')].map((place) => place.textContent).join()"
    while len(browser.run(SHOWN)) != 3:
        _, order = find_question(browser, key)
        for picture in order:
            hand.choose(picture)
        hand.go_on()
    question = find_question(browser, key)[0]
    for key_name, expected in (("1", "1,,"), ("3", "1,,2"), ("1", ",,1"), ("2", ",2,1"), ("Backspace", ",,1"), ("9", ",,1")):
        browser.press(key_name)
        assert browser.run(places) == expected
    hand.go_on()
    assert find_question(browser, key)[0] == question
    assert browser.run("document.getElementById('said').textContent") == "Please put all pictures in order first."
    browser.press("1")
    browser.press("2")
    assert browser.run("[...document.querySelectorAll('.candidate')].map((own) => own.getAttribute('aria-label'))") == [
        "Picture 1, place 2",
        "Picture 2, place 3",
        "Picture 3, place 1",
    ]
    hand.go_on()
    assert find_question(browser, key)[0] != question
    browser.tap("#back")
    assert (find_question(browser, key)[0], browser.run(places)) == (question, "2,3,1")


def test_the_next_person_begins_anew(browser: Browser, page: Path, key: Key):
    hand = begin(browser, page, "p-7")
    for _ in range(NUM_QUESTIONS):
        for picture in find_question(browser, key)[1]:
            hand.choose(picture)
        hand.go_on()
    first = json.loads(browser.run("document.getElementById('ballot').value"))
    browser.run("window.confirm = () => false")
    browser.tap("#forget")
    assert not browser.run("document.getElementById('end').hidden")
    browser.run("window.confirm = () => true")
    browser.tap("#forget")
    assert browser.run("localStorage.length") == 0
    browser.write("p-8")
    browser.press("Enter")
    assert browser.run("[state.participant, Object.keys(state.answers).length]") == ["p-8", 0]
    assert browser.run("state.ballot") != first["ballot"]


def test_a_browser_that_keeps_nothing_says_so_and_still_works(browser: Browser, page: Path, key: Key):
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('refused'); }})"
    browser.send("Page.addScriptToEvaluateOnNewDocument", source=refuse)
    browser.open(page, width=375)
    assert browser.run("document.getElementById('forgetful').checkVisibility()")
    hand = Hand(browser, "numbers")
    hand.begin("p-7")
    for picture in find_question(browser, key)[1]:
        hand.choose(picture)
    hand.go_on()
    assert browser.run("document.getElementById('count').textContent") == f"1 of {NUM_QUESTIONS}"


def test_what_is_kept_but_is_none_of_ours_is_no_hindrance(browser: Browser, page: Path):
    browser.open(page, width=375)
    for kept in ("{", "null", "[]", '{"participant": 5}'):
        browser.run(f"localStorage.setItem(place, {json.dumps(kept)})")
        browser.reload()
        assert not browser.run("document.getElementById('intro').hidden")
    assert browser.complaints == []


def test_hostile_titles_are_shown_and_run_nothing(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = StudyRun(tmp_path, num_users=2, text=HOSTILE)
    monkeypatch.chdir(run.folder)
    assert CliRunner().invoke(app, ["--checks", "0"], catch_exceptions=False).exit_code == 0
    begin(browser, Path("data/study/pages/group-1.html"), "<img src=x onerror=alert(1)>")
    assert browser.run("document.getElementById('text').textContent") == shorten(HOSTILE)
    assert browser.run("document.querySelectorAll('script').length") == 2
    for _ in range(4):
        for number in range(len(browser.run(SHOWN))):
            browser.press(str(number + 1))
        browser.press("Enter")
    assert browser.run("document.getElementById('save').download").startswith("ballot-1-_img_src_x_onerror_alert_1__-")
    assert browser.complaints == []
    assert os.path.realpath(run.folder) == os.path.realpath(Path.cwd())
