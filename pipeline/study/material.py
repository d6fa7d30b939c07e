"""What the study shows, out of a finished run: held-out users who have a picture by every method, with their history and their pictures."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifacts import read_table
from pipeline.draw.finished_run import FinishedRun
from pipeline.params import read_section
from pipeline.schemas import GENERATED
from pipeline.table_images import ImageColumn

NUM_HISTORY = 5  # items that the paper's participants are shown
RECENT, RETRIEVED = "recent", "retrieved"
HISTORIES = (RECENT, RETRIEVED)
REMEDY = "draw it first (make exp ARGS='-S comparison=table1' draws all baselines), or name other methods with --method"


@dataclass(frozen=True)
class StudyCase:
    """A user of the study: item ids of the history that is shown, and of the reference with its text."""

    case_id: str
    history: tuple[str, ...]
    reference_id: str
    text: str


@dataclass(frozen=True)
class Material:
    """Cases in the order in which groups are given them, encoded pictures by item, and by (case, method)."""

    cases: list[StudyCase]
    items: Mapping[str, bytes]
    drawn: Mapping[tuple[str, str], bytes]

    def compute_digest(self, *names: object) -> str:
        """Return the hash of everything that is shown, and of the names."""
        shown = hashlib.sha256(repr((names, self.cases)).encode())
        for key, image in sorted((repr(key), image) for key, image in (*self.items.items(), *self.drawn.items())):
            shown.update(f"{key} {hashlib.sha256(image).hexdigest()}".encode())
        return shown.hexdigest()


def read_material(run: FinishedRun, methods: Sequence[str], *, num_cases: int, history: str, seed: int) -> Material:
    """Choose up to `num_cases` cases by the seed, one a user, and read their pictures; ValueError if there is none."""
    columns = {method: open_drawn(run, method) for method in methods}
    cases = choose_cases(list_cases(run, columns, history), num_cases, seed=seed)
    item_ids = dict.fromkeys(item_id for case in cases for item_id in (*case.history, case.reference_id))
    case_ids = [case.case_id for case in cases]
    drawn = {(case_id, method): image for method, column in columns.items() for case_id, image in column.read(case_ids).items()}
    return Material(cases, run.images.read(list(item_ids)), drawn)


def open_drawn(run: FinishedRun, method: str) -> ImageColumn:
    """Open the pictures that the run has drawn by a method; ValueError if there is none."""
    path = run.locate_generated(method)
    if not path.is_file() or not len(read_table(path, GENERATED, columns=[])):
        raise ValueError(f"the run has no picture by {method}; {REMEDY}.")
    return ImageColumn(path, "case_id")


def list_cases(run: FinishedRun, columns: Mapping[str, ImageColumn], history: str) -> list[tuple[str, StudyCase]]:
    """Return (user, case) of every held-out case that has a history, a reference and a picture by every method; ValueError if there is none."""
    texts = dict(zip(run.items["item_id"].to_pylist(), run.items["text"].to_pylist(), strict=True))
    retrieved = list_retrieved(run) if history == RETRIEVED else {}
    split = read_section(run.params, "evaluation.split")
    found = []
    for row in run.cases.to_pylist():
        shown = tuple(retrieved.get(row["case_id"], ())[:NUM_HISTORY] if history == RETRIEVED else row["history"][-NUM_HISTORY:])
        if (
            row["split"] == split
            and len(shown) == NUM_HISTORY
            and all(item_id in run.images for item_id in (*shown, row["reference_id"]))
            and all(row["case_id"] in column for column in columns.values())
        ):
            case = StudyCase(row["case_id"], shown, row["reference_id"], texts.get(row["reference_id"], ""))
            found.append((row["user_id"], case))
    if not found:
        raise ValueError(
            f"no case of the split {split} has {NUM_HISTORY} history items and a picture by each of: {', '.join(columns)}; "
            "finish the run, or name other methods with --method."
        )
    return found


def list_retrieved(run: FinishedRun) -> dict[str, list[str]]:
    """Return the retrieved items of every case, the most similar first."""
    retrieved: dict[str, list[str]] = {}
    for row in run.retrieved.to_pylist():  # in key order: by rank
        retrieved.setdefault(row["case_id"], []).append(row["item_id"])
    return retrieved


def choose_cases(cases: Sequence[tuple[str, StudyCase]], num_cases: int, *, seed: int) -> list[StudyCase]:
    """Choose the first case of up to `num_cases` users, in an order that is the same for the same seed."""
    first: dict[str, StudyCase] = {}
    for user_id, case in sorted(cases, key=lambda pair: pair[1].case_id):
        first.setdefault(user_id, case)
    users = sorted(first)
    return [first[user] for user in random.Random(f"study:{seed}").sample(users, min(num_cases, len(users)))]
