"""A finished toy run with more users and with pictures by several methods, and participants who answer its pages as they are told."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.artifacts import build_table
from pipeline.data.images import encode_png
from pipeline.fingerprint import compute_fingerprint
from pipeline.params import read_section
from pipeline.schemas import CASES, SCORES
from pipeline.study.key import Key, Question
from pipeline.study.page import BALLOT_FORMAT
from tests.pipeline.draw.toy_run import NUM_ITEMS, ToyRun, draw_disc

METHODS = ("original", "pmg", "ragar")
FACTS = {"dataset": "toy", "profile": "embedded", "seed": 0, "history": "recent", "num_participants": 10}
Taste = Callable[[Question], list[str]]  # a question's pictures, the best first


class StudyRun(ToyRun):
    """A finished run whose test users have pictures by METHODS."""

    def __init__(self, folder: Path, *, num_users: int = 12, text: str = "") -> None:
        super().__init__(folder)
        self.cases = [self.make_case(user) for user in range(num_users)]
        for item in self.items:
            item["text"] = text or item["text"]
        if text:
            self.write_tables()
        self.write_cases()
        for place, method in enumerate(METHODS):
            self.write_generated(method, {row["case_id"]: draw_picture(number, place) for number, row in enumerate(self.cases)}, None)

    def make_case(self, user: int) -> dict[str, Any]:
        """Make a user of the split test, whose reference is an item of its own."""
        history = [f"item-{(user + 3 * place + 1) % NUM_ITEMS:02d}" for place in range(7)]
        row = {"case_id": f"case-{user:02d}", "user_id": f"user-{user:02d}", "split": "test", "history": history}
        return row | {"reference_id": f"item-{user % NUM_ITEMS:02d}", "truth_id": None}

    def write_cases(self) -> None:
        """Write the cases as they are now."""
        self.write("evaluation", "cases", build_table(self.cases, CASES), CASES, read_section(self.run.params, "dataset"))

    def write_scores(self, values: Callable[[str, str], dict[str, float | None]]) -> None:
        """Write the run's scores; `values` gives a case's score columns by method."""
        rows = [
            {"method": method, "case_id": row["case_id"], "user_id": row["user_id"], **values(method, row["case_id"])}
            for method in METHODS
            for row in self.cases
        ]
        self.write("report", "scores", build_table(rows, SCORES), SCORES, compute_fingerprint(None))


def draw_picture(number: int, place: int) -> bytes:
    """Draw a picture of its own for a case and a method."""
    return encode_png(draw_disc(20 * number % 255, size=24 + 8 * place, at=10 + place).convert("RGB"))


def rank_by_method(*methods: str) -> Taste:
    """Return the taste that puts methods in this order, whatever is asked."""
    return lambda question: sorted(question.methods, key=lambda picture: methods.index(question.methods[picture]))


def toss_coins(rng: random.Random) -> Taste:
    """Return the taste of somebody who does not look."""
    return lambda question: rng.sample(sorted(question.methods), len(question.methods))


def fill_in(key: Key, taste: Taste, *, participant: str, group: str = "1", passes_checks: bool = True) -> dict[str, Any]:
    """Fill in a ballot as the page would write it."""
    answers = []
    rng = random.Random(participant)
    for question_id, question in key.groups[group].items():
        if question.is_check:
            order = [*question.right, *sorted(set(question.pictures) - set(question.right))]
            order = order if passes_checks else order[::-1]
        else:
            order = taste(question)
        answers.append({"question": question_id, "order": order, "shown": rng.sample(sorted(order), len(order)), "seconds": 6.0})
    return {
        "format": BALLOT_FORMAT,
        "study": key.study,
        "group": group,
        "participant": participant,
        "ballot": f"{rng.getrandbits(64):016x}",
        "answers": answers,
    }


def write_ballot(folder: Path, ballot: object, name: str = "") -> Path:
    """Write a ballot as a participant sends it."""
    folder.mkdir(exist_ok=True)
    path = folder / (name or f"ballot-{ballot['participant']}.json")
    path.write_text(ballot if isinstance(ballot, str) else json.dumps(ballot), encoding="utf-8")
    return path


def make_image(side: int, colour: str) -> Image.Image:
    """Make a plain picture."""
    return Image.new("RGB", (side, side), colour)
