"""Assemble the report: one HTML file without scripts, fonts or pictures from elsewhere; the same inputs give the same bytes."""

from __future__ import annotations

from typing import Any

from pipeline.report.config import ReportConfig
from pipeline.report.gallery import build_gallery, build_style_sheet
from pipeline.report.inputs import ReportInputs
from pipeline.report.markup import Markup, element, join
from pipeline.report.sections import (
    build_charts,
    build_counts,
    build_curves,
    build_differences,
    build_facts,
    build_origin,
    build_rejected,
    build_table,
)
from pipeline.report.styles import CSS

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the browser refuses scripts and network too
INTRODUCTION = (
    "RAGAR takes what a user has looked at and one reference item, and draws that item the way this user would like it: it retrieves the "
    "history items that matter for the reference, lets a language model name the preference, and mixes both into the conditioning of a "
    "diffusion model, trained with a recommender as the source of reward."
)


def build_page(inputs: ReportInputs, config: ReportConfig, *, seed: int) -> str:
    """Return the whole page."""
    sections = [section for section in build_sections(inputs, config, seed=seed) if section[2]]
    links = [element("a", title, href=f"#{name}") for name, title, _ in sections]
    head = join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", config.title),
        element("style", Markup(CSS)),
    )
    body = join(
        element("header", element("div", *build_opening(inputs.summary, config), class_="inner")),
        element("nav", element("div", *links, class_="inner")),
        element("main", *(element("section", content, id=name) for name, _, content in sections)),
        element("footer", *build_closing(inputs)),
    )
    return f"<!doctype html>\n{element('html', element('head', head), element('body', body), lang='en')}\n"


def build_opening(summary: dict[str, Any], config: ReportConfig) -> list[Markup]:
    """Build the top of the page: profile, title, what this is, key figures."""
    label = f"{summary['profile']} profile" + (": small models, not the paper's" if summary["profile"] == "embedded" else "")
    return [
        element("span", label, class_="badge"),
        element("h1", config.title),
        element("p", INTRODUCTION, class_="lead"),
        build_facts(summary),
    ]


def build_sections(inputs: ReportInputs, config: ReportConfig, *, seed: int) -> list[tuple[str, str, Markup]]:
    """Return (anchor, title, content) of every section; content is empty where there is nothing to show."""
    summary = inputs.summary
    charts, table, differences = build_charts(summary), build_table(summary), build_differences(summary)
    sheet, curves = build_style_sheet(inputs, config.num_concepts, seed=seed), build_curves(inputs)
    how = f"Mean over {summary['num_users']:,} users with its {summary['interval']['level']:.0%} bootstrap interval, {summary['profile']} profile. "
    key = "Bold: the best of the drawn methods. Floor and ceiling show an item's own image. Point at a metric to read what it compares."
    gallery_note = (
        "For each user: the history, the reference, what each method drew, and what the user really wanted to see. "
        "✓ and ✗ are the verdicts of an independent judge. Point at a picture to learn more."
    )
    return [
        (
            "results",
            "Results",
            join(
                element("h2", "Results"),
                element("p", how, "Bar: interval; hollow: floor and ceiling.", class_="note"),
                charts,
                element("h3", "All metrics", class_="stage"),
                table,
                element("p", key, class_="key"),
                differences,
            ),
        ),
        ("gallery", "Gallery", build_titled("Gallery", gallery_note, build_gallery(inputs, config.num_users, seed=seed))),
        ("styles", "Styles", build_titled("Styles", "The same things in every style of the data set, drawn from OpenMoji.", sheet)),
        ("training", "Training", build_titled("Training curves", "First and last value beside each name.", curves)),
        ("data", "Data", build_titled("The data set", "What the dataset stage made of the raw files.", build_counts(inputs.dataset))),
        (
            "rejected",
            "Rejected rows",
            build_titled(
                "Rejected rows",
                "Every input row has one outcome; these could not be processed.",
                build_rejected(inputs.rejected, config.num_rejected),
            ),
        ),
        ("origin", "Origin", build_titled("Where the numbers come from", "Models, versions and params of this run.", build_origin(inputs))),
    ]


def build_titled(title: str, note: str, content: Markup) -> Markup:
    """Put a title and a note above a section's content; empty content gives an empty section."""
    return join(element("h2", title), element("p", note, class_="note"), content) if content else Markup("")


def build_closing(inputs: ReportInputs) -> list[Markup]:
    """Build the foot of the page."""
    lines = ["Drawn without scripts; everything on this page is inside this file."]
    if inputs.labels:
        lines.append("Stickers: OpenMoji, CC BY-SA 4.0, recoloured.")
    return [element("p", " ".join(lines))]
