"""Assemble the report: one HTML file without scripts, fonts or pictures from elsewhere; the same inputs give the same bytes.

The browser runs no script but `templates/page.js`, whose hash stands in the page's policy.

The templates in `templates/` say how the page looks, the other modules what it shows. Every string is escaped where a template writes it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import charts
from pipeline.report.config import FEW_USERS, ReportConfig, describe_few_users
from pipeline.report.figures import BOUNDS, get_title
from pipeline.report.gallery import build_card, build_style_sheet, list_causes
from pipeline.report.inputs import ReportInputs
from pipeline.report.results import (
    group_rows,
    list_charts,
    list_columns,
    list_differences,
    list_facts,
    list_folded,
    list_headline_rows,
    list_rival_columns,
)
from pipeline.report.sections import describe_measured, describe_shown, flatten_params, list_counts, list_curves, list_origin
from pipeline.terminal import show

TEMPLATES = Path(__file__).parent / "templates"
LAYOUT = re.compile(r"([\t\n])")  # mere space on a page


def build_page(inputs: ReportInputs, config: ReportConfig) -> str:
    """Return the whole page."""
    return load_templates().get_template("page.html").render(build_view(inputs, config) | {"script_hash": hash_script()})


def hash_script() -> str:
    """Return the hash by which the page's policy allows its script, and no other."""
    script = load_templates().get_template("page.js").render()
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


@cache
def load_templates() -> Environment:
    """Return Jinja's environment: escapes every value, refuses names that the view lacks."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=clean_value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["charts"] = charts  # for its sizes
    return environment


def clean_value(value: object) -> object:
    """Prepare a template's value for escaping: None is nothing, hidden characters (controls, bidi overrides) are written out."""
    if isinstance(value, Markup):  # what a macro has written, value by value
        return value
    return "" if value is None else "".join(part if LAYOUT.fullmatch(part) else show(part) for part in LAYOUT.split(str(value)))


def build_view(inputs: ReportInputs, config: ReportConfig) -> dict[str, Any]:
    """Return every name that the templates use."""
    summary = inputs.summary
    view = {
        "title": config.title,
        "summary": summary,
        "main_title": get_title(summary["main_method"]),
        "level": f"{summary['interval']['level']:.0%}",
        "domain": inputs.domain if inputs.domain and inputs.domain.is_outside else None,
        "few_users": describe_few_users(summary["num_users"]) if summary["num_users"] < FEW_USERS else None,
        "measured": describe_measured(inputs),
        "facts": list_facts(summary),
        "headline_rows": list_headline_rows(summary),
        "charts_of_metrics": list_charts(summary),
        "columns": list_columns(summary),
        "groups": group_rows(summary),
        "folded": list_folded(summary),
        "rival_columns": list_rival_columns(summary),
        "differences": list_differences(summary),
        "has_bounds": bool(BOUNDS.keys() & summary["methods"].keys()),
        **build_gallery(inputs),
        "sheet": build_style_sheet(inputs),
        "training": list_curves(inputs),
        "counts": list_counts(inputs.dataset),
        "left_out": list_causes(inputs, config.num_rejected),
        "cut_prompts": [prompts for prompts in inputs.left_out.prompts if prompts.count],
        "origin": list_origin(inputs),
        "params": flatten_params(inputs.params),
        "has_stickers": bool(inputs.labels),
    }
    return view | {"sections": list_sections(view)}


def build_gallery(inputs: ReportInputs) -> dict[str, Any]:
    """Return the names that the gallery uses: its cards, and what may be said of them."""
    cards = [build_card(inputs, case, number=number) for number, case in enumerate(inputs.shown.cases, start=1)]
    return {
        "cards": cards,
        "has_truth": any(case["truth_id"] for case in inputs.shown.cases),
        "has_verdicts": any(tile.verdicts for card in cards for tile in (*card.leading, *card.others)),
        "shown_users": describe_shown(inputs),
    }


def list_sections(view: dict[str, Any]) -> list[tuple[str, str]]:
    """Return anchor and title of every section that has something to show; the anchor is its template's name."""
    sections = {
        "results": ("Results", True),
        "gallery": ("Gallery", True),
        "styles": ("Styles", view["sheet"]),
        "training": ("Training", view["training"]),
        "data": ("Data", view["counts"]),
        "rejected": ("Left out", True),
        "origin": ("Origin", True),
    }
    return [(anchor, title) for anchor, (title, content) in sections.items() if content]
