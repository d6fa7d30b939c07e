"""The page: safe with hostile data, whole with broken images, the same every time. Run: python -m pytest tests/pipeline/report -q"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import pytest
from jinja2 import UndefinedError

from pipeline.report.domain import DomainFit
from pipeline.report.inputs import Shown
from pipeline.report.page import TEMPLATES, build_page, hash_script, load_templates
from tests.pipeline.report.made import CONFIG, Reader, make_inputs, make_png, make_summary

HOSTILE = "<script>alert(1)</script><b>\"x\" onload='evil()' &amp; javascript:\x00\ud800"
STORED = HOSTILE.replace("\ud800", "")  # what a Parquet file can hold
TAGS = {"html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section", "article", "footer", "details", "summary"}
TAGS |= {"div", "span", "h1", "h2", "h3", "p", "a", "b", "i", "img", "small", "code", "table", "thead", "tbody", "tr", "th", "td"}
TAGS |= {"em", "script", "dialog", "button", "label", "input", "output"}  # the page's own script, search and large pictures
TAGS |= {"svg", "line", "circle", "text", "polyline"}


def test_no_string_of_the_data_becomes_markup():
    reader = Reader(build_page(make_inputs(STORED), replace(CONFIG, title=HOSTILE)))
    assert {tag for tag, _ in reader.tags} <= TAGS
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert all(attributes["src"].startswith("data:image/webp;base64,") for tag, attributes in reader.tags if tag == "img" and "src" in attributes)
    assert all(re.fullmatch(r"#[a-z]+(-\d+)?", attributes["href"]) for tag, attributes in reader.tags if tag == "a")
    assert "<script>alert(1)</script>" in reader.text  # it is shown, as text


def test_every_string_of_the_data_is_shown_and_escaped():
    def count(word: str, shown: str) -> int:
        page = build_page(make_inputs(word), replace(CONFIG, title=word))
        return re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).lower().count(shown)

    assert count(STORED, "&lt;script&gt;alert(1)") == count("zqx", "zqx") > 100


def test_the_page_is_utf8_and_names_nothing_outside_itself():
    page = build_page(make_inputs(STORED), CONFIG)
    page.encode()
    outside = list(re.findall(r"(?:https?:)?//[^\s\"'<>]+", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)))
    assert not outside
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", page)


def test_the_browser_is_told_to_refuse_scripts_and_network():
    tags = Reader(build_page(make_inputs(STORED), CONFIG)).tags
    policies = [attributes["content"] for tag, attributes in tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{hash_script()}'"]
    assert [attributes for tag, attributes in tags if "style" in attributes] == [
        {"class": "sheet", "style": "grid-template-columns: 5.2rem repeat(1, minmax(0, 1fr))"}
    ]


def test_a_hostile_string_stays_inside_of_its_attribute():
    """Every attribute that can hold data holds the whole string, quotes and all."""
    shown = STORED.replace("\x00", r"\x00")
    tags = Reader(build_page(make_inputs(STORED), CONFIG)).tags
    found = {name for _, attributes in tags for name, value in attributes.items() if shown in (value or "")}
    assert found == {"title", "alt", "aria-label", "data-of"}


@pytest.mark.parametrize("path", sorted(TEMPLATES.iterdir()), ids=lambda path: path.name)
def test_templates_quote_every_attribute_and_never_switch_escaping_off(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"=\s*\{[{%]", text), "an attribute without quotes"
    assert not re.search(r"\|\s*(safe|forceescape|xmlattr|tojson)\b|autoescape|Markup", text)
    assert re.findall(r"<script.*|\son[a-z]+=.*|https?:.*", text) == (
        ['<script>{% include "page.js" %}</script>'] if path.name == "page.html" else []
    )
    if path.suffix in (".css", ".js"):
        assert not re.search(r"\{[{%#]", text), "data in the style sheet or in the script"


def test_a_name_that_the_view_lacks_is_an_error_and_no_gap():
    with pytest.raises(UndefinedError, match="measured"):
        load_templates().get_template("results.html").render()


@pytest.mark.parametrize("value", [HOSTILE, "a\x00b", 5, None, ("<", ">")])
def test_every_kind_of_value_is_escaped(value):
    text = load_templates().from_string('<p title="{{ value }}">{{ value }}</p>').render(value=value)
    (tag, attributes), *others = Reader(text).tags
    assert (tag, others) == ("p", [])
    assert attributes["title"] == Reader(text).text == ("" if value is None else str(value).replace("\x00", r"\x00").replace("\ud800", r"\ud800"))


def test_what_would_change_how_a_page_reads_is_written_out():
    hostile = "mug\u202egnp.exe \u200b\x1b[2J\x85"
    page = build_page(make_inputs(hostile), CONFIG)
    assert Reader(page).text.count(r"mug\u202egnp.exe \u200b\x1b[2J\x85") > 20
    assert not set(page) & set("\u202e\u200b\x1b\x85")
    assert "می\u200cخواهم, 👩\u200d🍳,\ttwo\nlines" in build_page(
        make_inputs("می\u200cخواهم, 👩\u200d🍳,\ttwo\nlines"), CONFIG
    )  # joiners that belong


@pytest.mark.parametrize("broken", [b"", b"not an image", make_png(0)[:100]])
def test_broken_images_leave_a_placeholder_and_a_reason(broken):
    page = build_page(make_inputs(broken=broken), CONFIG)
    placeholders = [attributes for tag, attributes in Reader(page).tags if attributes.get("class") == "pic broken"]
    assert len(placeholders) >= 6
    assert all(attributes["title"] for attributes in placeholders)


def test_a_missing_image_says_that_nothing_was_drawn():
    page = build_page(make_inputs(), CONFIG)
    assert "RAGAR drew nothing." in page


def test_the_same_inputs_give_the_same_bytes():
    assert build_page(make_inputs(), CONFIG) == build_page(make_inputs(), CONFIG)


def test_an_almost_empty_run_still_gives_a_page():
    summary = make_summary("word") | {"methods": {}, "differences": {}, "num_users": 0, "num_cases": 0}
    inputs = replace(make_inputs(summary=summary), shown=Shown([], [], {}, {}, {}), labels={}, scores={}, rejected=[], curves={})
    page = build_page(inputs, CONFIG)
    Reader(page)
    assert "No row was left out" in page
    assert "Styles" not in page


@pytest.mark.parametrize(
    ("num_users", "heading", "warning"),
    [
        (1, "Measured over 1 held-out user (", "One user has no interval, and says nothing of others."),
        (
            3,
            "Measured over 3 held-out users (",
            "Means over 3 users say little of others: below 10 none has an interval or is called better or worse.",
        ),
        (10, "Measured over 10 held-out users (", "Means over 10 users say little of others, and their intervals are too narrow."),
        (20, "Measured over 20 held-out users (", None),
    ],
)
def test_the_page_says_what_a_mean_over_few_users_is_worth(num_users, heading, warning):
    text = Reader(build_page(make_inputs(summary=make_summary("word") | {"num_users": num_users}), CONFIG)).text
    assert heading in text
    assert ("of others" in text) == (warning is not None)
    assert warning is None or warning in text


def test_the_retrieved_item_is_framed_with_its_rank_and_weight():
    tags = Reader(build_page(make_inputs(), CONFIG)).tags
    assert sum(attributes.get("class") == "slot hit" for _, attributes in tags) == 1
    assert any("It was retrieved as number 1, with similarity 0.500 and weight 0.900." in (attributes.get("title") or "") for _, attributes in tags)


def test_verdicts_are_ticks_and_crosses():
    text = Reader(build_page(make_inputs(), CONFIG)).text
    assert "✓ style" in text
    assert "✗ concept" in text


def test_rejected_rows_are_counted_and_cut():
    text = Reader(build_page(make_inputs(), CONFIG)).text
    assert "4 rows: word" in text
    assert "and 1 more" in text  # three examples are shown


def test_the_data_sets_counts_stand_beside_the_papers():
    counts = {"items": 9_700, "users": 4_680, "interactions": 88_920, "cases": {"train": 3_744, "val": 468, "test": 468}, "missing_images": 42}
    table = {"users": {"found": 4_680, "paper": 4_689, "deviation": -0.0019}}
    text = Reader(build_page(replace(make_inputs(), dataset=counts | {"table_2": table}), CONFIG)).text
    assert "users in the paper's Table 24,689; here 4,680 (-0.2%)" in text
    assert "42 of 9,742 (0.4%)" in text
    assert "0 of 9,700" in Reader(build_page(replace(make_inputs(), dataset=counts | {"missing_images": 0}), CONFIG)).text


def test_the_only_script_is_the_one_whose_hash_the_policy_allows():
    page = build_page(make_inputs(STORED), CONFIG)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert (len(scripts), f"script-src 'sha256-{digest}'" in page) == (1, True)
    assert not re.search(r"innerHTML|eval\(|fetch\(|XMLHttp|import\(", scripts[0])


def test_without_scripts_the_search_is_hidden_and_links_lead_to_every_user():
    tags = Reader(build_page(make_inputs(), CONFIG)).tags
    assert [attributes for _, attributes in tags if attributes.get("id") == "search"] == [{"id": "search", "class": "search", "hidden": None}]
    links = [attributes["href"] for tag, attributes in tags if tag == "a" and attributes["href"].startswith("#user-")]
    cards = [attributes["id"] for tag, attributes in tags if tag == "article"]
    assert links == [f"#{name}" for name in cards] == [f"#user-{n}" for n in (1, 2, 3, 4)]


def test_users_of_other_splits_are_shown_and_named_as_not_measured():
    text = Reader(build_page(make_inputs(), CONFIG)).text
    assert text.count("drawn but not measured: a user of the split train") == 1
    assert "Measured over 3 held-out users (the split test), word profile. 1 other user (1 train) is drawn and not measured" in text


def test_users_who_are_not_on_the_page_are_counted():
    inputs = replace(make_inputs(), num_drawn={"train": 30, "test": 12})
    assert "4 of 42 users are on this page, chosen by the seed; -S report.num_users=42 shows all." in Reader(build_page(inputs, CONFIG)).text
    assert "are on this page, chosen" not in Reader(build_page(make_inputs(), CONFIG)).text


def test_what_a_data_set_lacks_is_not_promised():
    whole = Reader(build_page(make_inputs(), CONFIG)).text
    assert "beside what the user really wanted to see" in whole
    assert "the verdicts of an independent judge" in whole
    inputs = make_inputs()
    cases = [case | {"truth_id": None} for case in inputs.shown.cases]
    poor = Reader(build_page(replace(inputs, shown=replace(inputs.shown, cases=cases), scores={}), CONFIG)).text
    assert "really wanted" not in poor
    assert "judge" not in re.sub(r"named by an independent judge", "", poor)


def test_a_catalogue_out_of_the_domain_is_said_on_top_and_one_inside_is_not():
    outside = Reader(build_page(replace(make_inputs(), domain=DomainFit(1496, 1434)), CONFIG)).text
    assert (
        "The embedded models do not know pictures like these. 1,434 of the catalogue's 1,496 pictures (96%) fit their text worse than 95% of"
        in outside
    )
    inside = Reader(build_page(replace(make_inputs(), domain=DomainFit(1800, 75)), CONFIG)).text
    assert "do not know pictures like these" not in inside
    assert "75 of the catalogue's 1,800 pictures (4%) fit their text worse" in inside  # among the run's origins


def test_tooltips_are_sentences():
    tags = Reader(build_page(make_inputs("Word"), CONFIG)).tags
    titles = {attributes["title"] for _, attributes in tags if attributes.get("title")}
    assert [title for title in titles if not title.endswith(".") or not (title[0].isupper() or title[0] in "“1")] == []
