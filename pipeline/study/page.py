"""Assemble a group's page: one HTML file that works without a network, whose browser runs no script but ours; equal inputs give equal bytes."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from pipeline.report.page import load_templates
from pipeline.study.pictures import Pictures
from pipeline.study.questions import Sheet
from pipeline.study.tasks import TASKS
from pipeline.terminal import show

TEMPLATES = Path(__file__).parent / "templates"
MAX_TEXT = 160  # characters of an item's text
BALLOT_FORMAT = "study-ballot/1"


def build_page(study: str, sheet: Sheet, pictures: Pictures) -> str:
    """Return the page; what it holds of the run is pictures, items' texts and ids that tell nothing."""
    data = {
        "format": BALLOT_FORMAT,
        "study": study,
        "group": sheet.group,
        "tasks": [{"name": task.name, "question": task.question, "context": task.context} for task in TASKS],
        "questions": [dataclasses.asdict(question) | {"text": shorten(question.text)} for question in sheet.questions],
        "pictures": pictures.uris,
    }
    script = load_study_templates().get_template("study.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    view = {"data": write_data(data), "script_hash": f"sha256-{digest}", "num_questions": len(sheet.questions)}
    return load_study_templates().get_template("study.html").render(view)


@cache
def load_study_templates() -> Environment:
    """Return the report's environment, which escapes every value, over the templates of this package."""
    return load_templates().overlay(loader=FileSystemLoader(TEMPLATES))


def write_data(data: dict[str, Any]) -> Markup:
    """Write JSON that no string in it can end: what HTML could read as markup is escaped as JSON has it."""
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)  # ASCII
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def shorten(text: str) -> str:
    """Return an item's text as a person may read it: hidden characters written out, and not endless."""
    shown = show(" ".join(text.split()))
    return shown if len(shown) <= MAX_TEXT else f"{shown[: MAX_TEXT - 1]}…"
