"""Fetch what a list of missing images names, in parallel, and say what became of it.

Resumable: an image that is there is never asked for again, and neither is a URL that was found dead (`dead_urls.csv` beside the list).
A download becomes a file only if it is an image that the pipeline can read, whole or not at all.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.fetch.download import Downloader
from pipeline.data.fetch.failures import Dead, Failure, Later
from pipeline.data.fetch.urls import parse_cell
from pipeline.files import write_bytes
from pipeline.runtime import progress
from pipeline.spreadsheets import read_csv, write_csv

WORKERS = 16
NUM_EXAMPLES = 3
MAX_SHOWN = 120  # characters of a URL
DEAD_COLUMNS = ("item_id", "url", "reason")


@dataclass(frozen=True)
class Wanted:
    """One image to download."""

    item_id: str
    path: Path
    url: str


def read_wanted(path: Path, raw: Path, dead: Collection[str]) -> list[Wanted]:
    """Read the list of missing images: those with a URL, still missing and not known to be dead; ValueError on paths outside of `raw`."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; `python -m stages.dataset --check` writes it.")
    wanted = [Wanted(row["item_id"], Path(row["path"]), row["url"].strip()) for row in read_csv(path, ("item_id", "path", "url")) if row["url"]]
    for item in wanted:
        if not is_inside(item.path, raw):
            raise ValueError(f"{path} names {item.path}, which is not inside of {raw}; `python -m stages.dataset --check` writes the list anew.")
    return [item for item in wanted if item.url not in dead and not item.path.exists()]


def is_inside(path: Path, folder: Path) -> bool:
    """Say whether a path stays below a folder, links followed; one that no disk could have does not."""
    try:
        return folder.resolve() in path.resolve().parents and not path.is_dir()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links that lead in a circle; ValueError: NUL
        return False


def read_dead(path: Path) -> list[dict[str, str]]:
    """Read the URLs that earlier runs found dead."""
    return read_csv(path, DEAD_COLUMNS) if path.is_file() else []


def fetch_images(wanted: Sequence[Wanted], downloader: Downloader) -> Iterator[tuple[Wanted, Failure | None]]:
    """Download images, and yield every one with what went wrong, if anything did; ending early stops all threads."""

    def fetch(item: Wanted) -> Failure | None:
        try:
            write_bytes(item.path, downloader.download(item.url))
        except Failure as error:
            return error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # a full disk ends the run
                raise
            return Later("the file's name is too long for this disk")
        return None

    ordered = spread_hosts(wanted)
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield from zip(ordered, progress(pool.map(fetch, ordered), label="fetch-images", total=len(ordered)), strict=True)
    finally:
        downloader.stop()
        pool.shutdown(cancel_futures=True)


def spread_hosts(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Order the items so that hosts take turns: else all threads might wait for one host's few places."""
    turns: Counter[str] = Counter()

    def take_turn(item: Wanted) -> int:
        try:
            host = parse_cell(item.url).host
        except Dead:
            host = ""
        turns[host] += 1
        return turns[host]

    return sorted(wanted, key=take_turn)


def fetch_list(missing: Path, raw: Path, downloader: Downloader) -> tuple[int, list[tuple[Wanted, Failure]]]:
    """Fetch what the list names, remember dead URLs; return how many images came, and those that did not."""
    dead_path = missing.parent / "dead_urls.csv"
    rows = read_dead(dead_path)
    wanted = read_wanted(missing, raw, {row["url"] for row in rows})
    failed: list[tuple[Wanted, Failure]] = []
    num_fetched = 0
    try:
        for item, failure in fetch_images(wanted, downloader):
            if failure is None:
                num_fetched += 1
            else:
                failed.append((item, failure))
    finally:  # what an interrupted run has learned counts as well
        new = [{"item_id": item.item_id, "url": item.url, "reason": str(failure)} for item, failure in failed if isinstance(failure, Dead)]
        write_csv(dead_path, rows + new, DEAD_COLUMNS)
    return num_fetched, failed


def describe_outcome(num_fetched: int, failed: Sequence[tuple[Wanted, Failure]], dead_path: Path) -> list[str]:
    """Return the closing lines: counts, then every cause with its count and some examples, the most frequent first."""
    num_dead = sum(isinstance(failure, Dead) for _, failure in failed)
    lines = [f"fetch-images: {num_fetched:,} of {num_fetched + len(failed):,} images fetched, {len(failed):,} failed"]
    if failed:
        lines[0] += f": {num_dead:,} for good (listed in {dead_path}), {len(failed) - num_dead:,} are asked for again by the next run"
    for cause, examples in group_causes(failed).items():
        lines.append(f"  {len(examples):,} x {cause}")
        for item, failure in examples[:NUM_EXAMPLES]:
            url = item.url if len(item.url) <= MAX_SHOWN else f"{item.url[:MAX_SHOWN]}…"
            lines.append(f"      {item.item_id}: {url}{f' ({failure.detail})' if failure.detail else ''}")
    return lines


def group_causes(failed: Sequence[tuple[Wanted, Failure]]) -> Mapping[str, list[tuple[Wanted, Failure]]]:
    """Group what failed by its cause, the most frequent first."""
    groups: dict[str, list[tuple[Wanted, Failure]]] = {}
    for item, failure in failed:
        groups.setdefault(failure.cause, []).append((item, failure))
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))
