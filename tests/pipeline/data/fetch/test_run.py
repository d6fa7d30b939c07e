"""Fetching a list of missing images from a server of this machine. Run: python -m pytest tests/pipeline/data/fetch/test_run.py"""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.data.fetch import download, run
from pipeline.data.fetch.__main__ import app, keep_hosts
from pipeline.data.fetch.download import Downloader
from pipeline.data.fetch.failures import Dead, Failure, Later
from pipeline.data.fetch.run import Wanted, fetch_images, read_wanted, spread_hosts
from pipeline.spreadsheets import write_csv
from stages.dataset import MISSING_COLUMNS
from tests.broken_items import draw_halves, save_image
from tests.web import Web, run_web

GOOD = save_image(draw_halves("red"))
REPO = Path(__file__).resolve().parents[4]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "wait_exponential", lambda: lambda state: 0.0)
    with run_web() as served:
        yield served


class Project:
    """A list of missing images, and the params that name its data set."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.missing, self.params = folder / "raw", folder / "missing.csv", folder / "params.yaml"
        self.params.write_text(f"dataset:\n  raw: {self.raw}\n")

    def list_missing(self, urls: Sequence[tuple[str, str]]) -> None:
        rows = [
            {"item_id": item_id, "text": "", "path": f"{self.raw}/images/{item_id}.png", "url": url, "hint": "", "reason": "no"}
            for item_id, url in urls
        ]
        write_csv(self.missing, rows, MISSING_COLUMNS)

    def fetch(self, *options: str) -> tuple[int, list[str]]:
        result = CliRunner().invoke(app, [str(self.missing), "--params", str(self.params), *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output.splitlines()

    def list_images(self) -> list[str]:
        return sorted(path.name for path in (self.raw / "images").iterdir()) if (self.raw / "images").exists() else []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


ALLOW = ("--allow-host", "127.0.0.1")


def test_every_item_has_its_own_end_and_the_summary_tells_it(web: Web, project: Project) -> None:
    web.serve("/1.png", GOOD)
    web.serve("/page", b"<html>")
    web.serve("/cut", GOOD[:-5], length=len(GOOD))
    gone = [(f"gone{n}", f"{web.url}/gone{n}") for n in range(4)]
    bad = [
        ("esc", "http://h/\x1b[2J"),
        ("brackets", "http://[::1"),
        ("empty", "http://"),
        ("file", "file:///etc/passwd"),
        ("port", "http://h:99999/"),
    ]
    others = [("page", f"{web.url}/page"), ("cut", f"{web.url}/cut"), ("local", "http://10.0.0.1/x.png"), ("none", "")]
    project.list_missing([("1", f"{web.url}/1.png"), *gone, *bad, *others])
    code, lines = project.fetch(*ALLOW)
    dead_path = project.missing.with_name("dead_urls.csv")
    assert code == 1
    assert lines[1] == f"fetch-images: 1 of 13 images fetched, 12 failed: 10 for good (listed in {dead_path}), 2 are asked for again by the next run"
    causes = {line.strip() for line in lines[2:] if not line.startswith("      ")}
    assert causes == {
        "4 x the host answers 404",
        "4 x the URL is no valid URL",
        "1 x only http and https URLs are fetched",
        "1 x what came is no usable image",
        "1 x the file was cut off on the way",
        "1 x the host's address is not public",
    }
    assert [len(line) for line in lines if "\x1b" in line] == []
    assert sum("/gone" in line for line in lines) == 3  # examples
    assert r"      esc: http://h/\x1b[2J (Invalid non-printable ASCII character in URL, '\x1b' at position 9.)" in lines
    assert "      local: http://10.0.0.1/x.png (10.0.0.1: only `--allow-host 10.0.0.1` would ask it)" in lines
    assert project.list_images() == ["1.png"]
    assert (project.raw / "images" / "1.png").read_bytes() == GOOD


def test_a_second_run_asks_only_for_what_is_missing_and_not_dead(web: Web, project: Project) -> None:
    web.serve("/0", GOOD)
    web.serve("/1", b"<html>")
    web.serve("/3", b"", code=503, Retry_After="3600")
    project.list_missing([(str(n), f"{web.url}/{n}") for n in (0, 1, 2, 3)])
    assert project.fetch(*ALLOW)[0] == 1
    web.answers["/3"] = []
    web.serve("/3", GOOD)
    code, lines = project.fetch(*ALLOW)
    assert (code, lines[1:]) == (0, ["fetch-images: 1 of 1 images fetched, 0 failed"])
    assert Counter(web.asked) == {"/0": 1, "/1": 1, "/2": 1, "/3": 2}
    assert project.list_images() == ["0.png", "3.png"]
    code, lines = project.fetch(*ALLOW)
    assert (code, lines[1:]) == (0, ["fetch-images: 0 of 0 images fetched, 0 failed"])
    assert sum(Counter(web.asked).values()) == 5


def test_a_host_of_this_machine_is_asked_only_when_it_is_allowed(web: Web, project: Project) -> None:
    project.list_missing([("1", web.serve("/1.png", GOOD))])
    code, lines = project.fetch()
    assert (code, web.asked) == (1, [])
    assert "the host's address is not public" in lines[2]
    assert project.fetch("--allow-host", "example.org", "--allow-host", "127.0.0.1")[0] == 0  # it was not remembered as dead
    assert web.asked == ["/1.png"]


def test_names_that_look_like_formulas_are_fetched_under_their_own_name(web: Web, project: Project) -> None:
    names = ["=1+1", "-x", "@a", "+b", "'=c", "ñ 新"]
    project.list_missing([(name, web.serve(f"/{n}.png", GOOD)) for n, name in enumerate(names)])
    assert "\n'=1+1," in project.missing.read_text()
    assert project.fetch(*ALLOW)[0] == 0
    assert project.list_images() == sorted(f"{name}.png" for name in names)


def write_paths(project: Project, *paths: str) -> None:
    write_csv(project.missing, [{"item_id": str(n), "path": path, "url": "http://h/a"} for n, path in enumerate(paths)], MISSING_COLUMNS)


def test_a_path_outside_of_the_data_set_is_refused(project: Project, tmp_path: Path) -> None:
    (project.raw / "images").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (project.raw / "images" / "link").symlink_to(tmp_path / "elsewhere")
    (project.raw / "circle").symlink_to(project.raw / "circle")
    for path in (
        f"{project.raw}/../x.png",
        "/etc/passwd",
        f"{project.raw}/images/link/x.png",
        "x.png",
        f"{project.raw}",
        f"{project.raw}/images",
        "a\0b",
    ):
        write_paths(project, f"{project.raw}/images/good.png", path)
        with pytest.raises(ValueError, match=r"which is not inside of .*writes the list anew"):
            read_wanted(project.missing, project.raw, set())


def test_a_name_too_long_for_the_disk_ends_its_item_only(web: Web, project: Project) -> None:
    project.list_missing([("x" * 249, web.serve("/a", GOOD)), ("b", web.serve("/b", GOOD))])
    code, lines = project.fetch(*ALLOW)
    assert (code, project.list_images()) == (1, ["b.png"])
    assert "1 x the file's name is too long for this disk" in lines[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item_id,path\n", "has no column `url`"),
        ("", "has no column `item_id`"),
        (None, "does not exist; `python -m stages.dataset --check` writes it"),
    ],
)
def test_a_broken_list_gets_one_sentence(project: Project, text: str | None, words: str) -> None:
    if text is not None:
        project.missing.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_wanted(project.missing, project.raw, set())


def test_no_host_sees_more_requests_at_a_time_than_allowed(web: Web, tmp_path: Path) -> None:
    open_now: Counter[str] = Counter()
    most: Counter[str] = Counter()
    lock, full = threading.Lock(), threading.Barrier(2 * download.PER_HOST)

    def answer(handler) -> None:
        host = handler.headers["Host"]
        with lock:
            open_now[host] += 1
            most[host] = max(most[host], open_now[host])
        full.wait(timeout=10)  # passes only while both hosts have all of their requests open
        with lock:
            open_now[host] -= 1
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(GOOD)))
        handler.end_headers()
        handler.wfile.write(GOOD)

    hosts = [web.url, web.url.replace("127.0.0.1", "localhost")]
    count = 8 * download.PER_HOST
    urls = [hosts[n // (count // 2)] + f"/{n}" for n in range(count)]  # all of the first host, then all of the second
    for n in range(count):
        web.answer(f"/{n}", answer)
    downloader = Downloader(["127.0.0.1", "localhost"], resolve=lambda host, port: ["127.0.0.1"])
    outcomes = list(fetch_images([Wanted(str(n), tmp_path / f"{n}.png", url) for n, url in enumerate(urls)], downloader))
    assert [failure for _, failure in outcomes] == [None] * count
    assert set(most.values()) == {download.PER_HOST}


def test_hosts_take_turns() -> None:
    wanted = [Wanted(name, Path(name), f"http://{name[0]}/{name}") for name in ("a1", "a2", "a3", "b1", "b2", "c1")] + [
        Wanted("x", Path("x"), "http://[")
    ]
    assert [item.item_id for item in spread_hosts(wanted)] == ["a1", "b1", "c1", "x", "a2", "b2", "a3"]


def test_an_interrupted_run_stops_soon_and_remembers_what_was_dead(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Stub(Downloader):
        def download(self, text: str) -> bytes:
            asked.append(text)
            if self.stopped.is_set():
                raise Later("it was interrupted")
            raise Dead("gone")

    def stop_after_two(outcomes, **_: object) -> Iterator[Failure | None]:
        for n, outcome in enumerate(outcomes):
            if n == 2:
                raise KeyboardInterrupt
            yield outcome

    monkeypatch.setattr(run, "progress", stop_after_two)
    project.list_missing([(str(n), f"http://h/{n}") for n in range(500)])
    with pytest.raises(KeyboardInterrupt):
        run.fetch_list(project.missing, project.raw, Stub())
    assert [row["url"] for row in run.read_dead(project.missing.with_name("dead_urls.csv"))] == ["http://h/0", "http://h/1"]
    assert len(asked) < 500


def test_a_proxy_of_the_environment_is_named_as_not_used(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.list_missing([])
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy:3128")
    code, lines = project.fetch()
    assert code == 0
    assert lines[0].startswith("fetch-images: note: the proxy in HTTPS_PROXY is not used")
    assert not any("secret" in line for line in lines)


@pytest.mark.parametrize(
    ("typed", "hosts"),
    [
        ("dataset=folder --allow-host a.b dataset.raw=x --allow-host=c", ["--allow-host=a.b", "--allow-host=c"]),
        ('dataset.raw="/x/my  pics" --allow-host a.b', ["--allow-host=a.b"]),
        ("dataset=pog", []),
    ],
)
def test_make_hands_the_allowed_hosts_to_the_download_and_the_rest_to_the_params(typed: str, hosts: list[str]) -> None:
    shown = subprocess.run(["make", "-n", "fetch-images", f"ARGS={typed}"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    assert f"python -m pipeline.compose --out data/check/params.yaml --without --allow-host --args '{typed}'\n" in shown
    assert f"python -m pipeline.data.fetch data/check/missing.csv --params data/check/params.yaml --args '{typed}' " in shown
    assert keep_hosts(["missing.csv", "--args", typed]) == ["missing.csv", *hosts]
    assert keep_hosts(["missing.csv", "--allow-host", "a"]) == ["missing.csv", "--allow-host", "a"]


def test_an_allowed_host_without_a_name_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^--allow-host stands there without its value; write it behind, as in --allow-host NAME\.$"):
        keep_hosts(["missing.csv", "--args", "dataset=folder --allow-host"])
