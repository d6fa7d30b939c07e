"""From a table of requests, or from all that a run has drawn, to a folder of pictures and its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.artifacts import read_table
from pipeline.draw.delivery import Outcome, deliver
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.new_items import ItemModels, NewItem, NewItems, describe_new_items, store_pictures
from pipeline.draw.picture_files import Format, prepare_folder
from pipeline.draw.requests import Defaults, Rejected, Request, RequestTable, read_requests
from pipeline.draw.wishes import Wish, find_wishes
from pipeline.schemas import GENERATED


def draw_requests(path: Path, out: Path, run: FinishedRun, defaults: Defaults, picture_format: Format = "png") -> Outcome:
    """Draw a table of requests; every request ends as a file or as a reason."""
    check_place(out, run)
    table = read_requests(path, defaults)
    prepare_folder(out)
    models = ItemModels(run.params)
    wishes, new_items, rejected = resolve_requests(table, run, models)
    return deliver(wishes, new_items, rejected, out, run, models, picture_format)


def check_place(out: Path, run: FinishedRun) -> None:
    """Raise ValueError for a folder that DVC keeps, or a file."""
    place = out.resolve()
    if place.exists() and not place.is_dir():
        raise ValueError(f"--out is {out}, which is a file; name a folder, which is made if it is not there.")
    for folder in run.list_out_folders():
        if place == folder or folder in place.parents or place in folder.parents:
            raise ValueError(f"--out is {out}, but a stage of the pipeline keeps its files in {folder}; name another folder.")


def resolve_requests(table: RequestTable, run: FinishedRun, models: ItemModels) -> tuple[list[Wish], NewItems, list[Rejected]]:
    """Store and describe the pictures that the catalogue lacks, and find the case of every request."""
    rejected = list(table.rejected)
    pictures = store_pictures(table.requests, run)
    named: list[tuple[Request, str]] = []
    stored: list[NewItem] = []
    for request in table.requests:
        picture = pictures.get(request.number)
        if isinstance(picture, str):
            rejected.append(Rejected(request.number, request.request_id, picture))
        elif picture is not None:
            stored.append(picture)
            named.append((request, picture.item_id))
        else:
            named.append((request, request.reference_id))
    new_items = describe_new_items(stored, run, models)
    failed = [(request, new_items.reasons[item_id]) for request, item_id in named if item_id in new_items.reasons]
    rejected += [Rejected(request.number, request.request_id, f"Of the new picture: {reason}") for request, reason in failed]
    wishes, unknown = find_wishes([pair for pair in named if pair[1] not in new_items.reasons], run, new_items)
    return wishes, new_items, [*rejected, *unknown]


def export_run(out: Path, run: FinishedRun, methods: Sequence[str], picture_format: Format = "png") -> Outcome:
    """Write all pictures that the run has drawn by some methods as if somebody had asked for them."""
    check_place(out, run)
    prepare_folder(out)
    models = ItemModels(run.params)
    new_items = describe_new_items([], run, models)
    requests = [(request, request.reference_id) for request in list_drawn(run, methods)]
    wishes, rejected = find_wishes(requests, run, new_items)
    return deliver(wishes, new_items, rejected, out, run, models, picture_format)


def list_drawn(run: FinishedRun, methods: Sequence[str]) -> Iterator[Request]:
    """Yield a request for every picture in the run's tables, case by case."""
    drawn = {method: set(read_table(run.locate_generated(method), GENERATED, columns=[])["case_id"].to_pylist()) for method in methods}
    number = 0
    for row in run.cases.to_pylist():
        for method in methods:
            if row["case_id"] in drawn[method]:
                number += 1
                yield Request(number, "", row["user_id"], (), row["reference_id"], None, "", "", run.seed, 1, method, run.retrieval.k, run.start)
