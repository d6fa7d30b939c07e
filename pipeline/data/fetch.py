"""`make fetch-images`: download missing images by the URLs in the user's own data. No stage and no test does; nobody is asked but those hosts.

Polite: it names itself, opens at most PER_HOST connections to a host, waits when a host says so, and gives up after a few tries.
Resumable: an image that is there is never asked for again, and neither is a URL that was found dead (`dead_urls.csv` beside the list).
A download becomes a file only if it is an image that the pipeline can read, whole or not at all.
"""

from __future__ import annotations

import csv
import http.client
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.artifacts import write_csv
from pipeline.data.images import MAX_BYTES, ImageError, decode_image
from pipeline.endings import fail, run_command
from pipeline.files import write_bytes
from pipeline.params import read_section
from pipeline.runtime import progress

USER_AGENT = "ragar-fetch-images (fetches the images of one data set, once)"
WORKERS = 16
PER_HOST = 4  # connections at a time
PAUSE = 0.1  # seconds between two requests over one connection
TIMEOUT = 30  # seconds
TRIES = 3
MAX_WAIT = 60  # seconds; a host that asks for more is asked again in the next run
RETRIED = {429, 500, 502, 503, 504}
DEAD_COLUMNS = ("item_id", "url", "reason")

Download = Callable[[str], bytes]


class DeadUrl(ValueError):
    """A URL that will not give an image, however often it is asked; the message says why."""


class HostBusy(ValueError):
    """A URL that may give an image another time."""


@dataclass(frozen=True)
class Wanted:
    """One image to download."""

    item_id: str
    path: Path
    url: str


def fetch_images(wanted: Sequence[Wanted], *, download: Download) -> tuple[int, dict[str, DeadUrl], int]:
    """Download what is not there yet; return the number of new files, the dead URLs by item id, and how many may work another time."""
    slots: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(PER_HOST))
    hosts = {item.item_id: slots[urlsplit(item.url).netloc] for item in wanted}

    def fetch(item: Wanted) -> DeadUrl | HostBusy | None:
        with hosts[item.item_id]:
            try:
                data = download(item.url)
                decode_image(data)
            except ImageError as error:
                return DeadUrl(f"what came is no usable image: {error}")
            except (DeadUrl, HostBusy) as error:
                return error
        write_bytes(item.path, data)
        return None

    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = list(progress(pool.map(fetch, wanted), label="fetch-images", total=len(wanted)))
    dead = {item.item_id: outcome for item, outcome in zip(wanted, outcomes, strict=True) if isinstance(outcome, DeadUrl)}
    return outcomes.count(None), dead, sum(isinstance(outcome, HostBusy) for outcome in outcomes)


def download_politely(url: str, *, opener: Callable = urllib.request.urlopen, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """Return the bytes behind a URL; waits and tries again where a host is busy."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise DeadUrl("only http and https URLs are fetched.")
    reason: object = ""
    for attempt in range(TRIES):
        wait = 2.0**attempt
        try:
            with opener(urllib.request.Request(url, headers={"User-Agent": USER_AGENT}), timeout=TIMEOUT) as response:
                data = response.read(MAX_BYTES + 1)
            sleep(PAUSE)
            return data
        except urllib.error.HTTPError as error:
            if error.code not in RETRIED:
                raise DeadUrl(f"the host answers {error.code}.") from error
            reason, wait = error.code, max(wait, parse_wait(error.headers.get("Retry-After")))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error
        if wait > MAX_WAIT:
            break
        sleep(wait)
    raise HostBusy(f"no answer after {TRIES} tries ({reason}).")


def parse_wait(text: str | None) -> float:
    """Return the seconds that a `Retry-After` header asks for, 0 if it asks for none; a date counts as MAX_WAIT."""
    if not text:
        return 0.0
    return float(text) if text.isdecimal() else float(MAX_WAIT)


def read_wanted(path: Path, raw: Path, dead: Iterable[str]) -> list[Wanted]:
    """Read the list of missing images: those with a URL, still missing and not known to be dead; ValueError on paths outside of `raw`."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; `python -m stages.dataset --check` writes it.")
    known, base = set(dead), raw.resolve()
    with path.open(encoding="utf-8", newline="") as file:
        wanted = [Wanted(row["item_id"], Path(row["path"]), row["url"]) for row in csv.DictReader(file) if row["url"]]
    for item in wanted:
        if base not in item.path.resolve().parents:
            raise ValueError(f"{path} names {item.path}, which is not inside of {raw}; `python -m stages.dataset --check` writes the list anew.")
    return [item for item in wanted if item.url not in known and not item.path.exists()]


def read_dead(path: Path) -> list[dict[str, str]]:
    """Read the URLs that earlier runs found dead."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(missing: Path, params: Path = Path("params.yaml")) -> None:
    """Fetch what the list names, and say what became of it."""
    dead_path = missing.parent / "dead_urls.csv"
    rows = read_dead(dead_path)
    wanted = read_wanted(missing, Path(read_section(params, "dataset.raw")), (row["url"] for row in rows))
    print(f"fetch-images: {len(wanted):,} images to ask for; you must be allowed to download them", flush=True)
    num_new, dead, num_busy = fetch_images(wanted, download=download_politely)
    urls = {item.item_id: item.url for item in wanted}
    write_csv(dead_path, rows + [{"item_id": key, "url": urls[key], "reason": str(error)} for key, error in dead.items()], DEAD_COLUMNS)
    print(f"fetch-images: {num_new:,} new images, {len(dead):,} dead URLs (in {dead_path}), {num_busy:,} to be tried again", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        fail("which list? `python -m pipeline.data.fetch data/dataset/missing.csv`")
    run_command(lambda: main(Path(sys.argv[1])), kept="what has been downloaded is kept, the same command goes on from there")
