"""The page: safe with hostile data, whole with broken images, the same every time. Run: python -m pytest tests/pipeline/report -q"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import build_table
from pipeline.metrics.definitions import define_metrics
from pipeline.report.charts import Mark, average_blocks, choose_ticks, draw_curve, draw_intervals, format_ticks, smooth
from pipeline.report.config import ReportConfig
from pipeline.report.figures import find_best, format_interval, format_value, judge_difference, sort_methods
from pipeline.report.inputs import (
    Curves,
    ReportInputs,
    choose_cases,
    choose_concepts,
    flatten_params,
    index_generated,
    index_images,
    index_retrieved,
    read_curves,
)
from pipeline.report.markup import VOID_TAGS, element, escape
from pipeline.report.page import build_page
from pipeline.report.thumbnails import build_picture, encode_thumbnail
from pipeline.schemas import GENERATED, ITEMS, RETRIEVED

HOSTILE = "<script>alert(1)</script><b>\"x\" onload='evil()' &amp; javascript:\x00\ud800"
STORED = HOSTILE.replace("\ud800", "")  # what a Parquet file can hold
CONFIG = ReportConfig(title="RAGAR", num_users=3, num_concepts=2, num_rejected=2)
METRICS = {metric.name: metric for metric in define_metrics("effnet")}
TAGS = {"html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section", "article", "footer", "details", "summary"}
TAGS |= {"div", "span", "h1", "h2", "h3", "p", "a", "b", "i", "img", "small", "code", "table", "thead", "tbody", "tr", "th", "td"}
TAGS |= {"svg", "line", "circle", "text", "polyline"}


class Reader(HTMLParser):
    """Reads a page, notes tags, attributes and text, and checks that tags nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def make_png(seed: int, size: int = 16) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size=(size, size, 3), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def make_entry(value: float | None) -> dict:
    return {"value": value, "low": None if value is None else value - 0.1, "high": None if value is None else value + 0.1, "n": 3}


def make_summary(word: str) -> dict:
    names = ("style_accuracy", "concept_accuracy", "effnet_truth", "cis", "delta_r")
    methods = {method: {name: make_entry(0.5) for name in names} for method in ("original", "truth", "ragar", word)}
    methods[word]["cis"] = make_entry(None)
    return {
        "profile": word,
        "perceptual": "effnet",
        "main_method": "ragar",
        "methods": methods,
        "differences": {word: {name: make_entry(0.0) for name in names}},
        "models": {"metric_clip": word},
        "interval": {"level": 0.95, "num_resamples": 2000, "unit": "user"},
        "seed": 0,
        "num_users": 3,
        "num_cases": 3,
        "split": "test",
        "history": "all",
        "text": word,
        "image_size": 16,
        "skipped": {"unreadable_images": 1, "cases_without_image": {word: 2}},
    }


def make_inputs(word: str = "word", *, broken: bytes = b"", summary: dict | None = None) -> ReportInputs:
    """Four users whose strings all hold `word`; one history item, one drawn image and one reference are broken."""
    ids = [f"i{n}{word}" for n in range(6)]
    items = [
        {
            "item_id": item_id,
            "image": {"bytes": broken if n in (2, 4) else make_png(n), "path": word},
            "text": f"{word}{n}",
            "category": word,
            "image_sha256": "",
        }
        for n, item_id in enumerate(ids)
    ]
    cases = [
        {
            "case_id": f"k{n}{word}",
            "user_id": f"u{n}{word}",
            "split": "test",
            "history": [ids[2], ids[3], "unknown item"],
            "reference_id": ids[4 if n == 3 else 0],
            "truth_id": None if n == 2 else ids[1],
        }
        for n in range(4)
    ]
    rows = [
        {"method": method, "case_id": case["case_id"], "image": {"bytes": broken if n == 1 else make_png(10 + n), "path": None}}
        for method in ("ragar", word)
        for n, case in enumerate(cases[:3])
    ]
    hit = {"case_id": cases[0]["case_id"], "rank": 0, "item_id": ids[3], "similarity": 0.5, "weight": 0.9}
    score = {"style_accuracy": 1.0, "concept_accuracy": 0.0, "cis": None}
    return ReportInputs(
        items=index_images(build_table(items, ITEMS), "item_id"),
        item_texts={item["item_id"]: item["text"] for item in items},
        labels={ids[0]: ("classic", word), ids[1]: (word, word)},
        cases=cases,
        preferences={cases[0]["case_id"]: [word, "red"]},
        retrieved=index_retrieved(build_table([hit], RETRIEVED)),
        generated=index_generated([build_table(rows, GENERATED)]),
        scores={(method, case["case_id"]): score for method in ("ragar", "original", word) for case in cases},
        summary=summary or make_summary(word),
        rejected=[{"stage": word, "row_key": f"{word}{n}", "reason": word} for n in range(4)],
        curves={word: Curves(word, {word: [(0.0, 1.0), (1.0, 0.5)]}), "empty": Curves()},
        params={word: {word: [word]}, "report": {"title": word}},
        provenance={"packages": {word: word}},
    )


def test_no_string_of_the_data_becomes_markup():
    reader = Reader(build_page(make_inputs(STORED), replace(CONFIG, title=HOSTILE, num_users=4), seed=0))
    assert {tag for tag, _ in reader.tags} <= TAGS
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert all(attributes["src"].startswith("data:image/webp;base64,") for tag, attributes in reader.tags if tag == "img")
    assert all(re.fullmatch(r"#[a-z]+", attributes["href"]) for tag, attributes in reader.tags if tag == "a")
    assert "<script>alert(1)</script>" in reader.text  # it is shown, as text


def test_every_string_of_the_data_is_shown_and_escaped():
    def count(word: str, shown: str) -> int:
        page = build_page(make_inputs(word), replace(CONFIG, title=word, num_users=4), seed=0)
        return re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).lower().count(shown)

    assert count(STORED, "&lt;script&gt;alert(1)") == count("zqx", "zqx") > 100


def test_the_page_is_utf8_and_names_nothing_outside_itself():
    page = build_page(make_inputs(STORED), CONFIG, seed=0)
    page.encode()
    outside = list(re.findall(r"(?:https?:)?//[^\s\"'<>]+", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)))
    assert not outside
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    assert "\x00" not in page


@pytest.mark.parametrize("broken", [b"", b"not an image", make_png(0)[:100]])
def test_broken_images_leave_a_placeholder_and_a_reason(broken):
    page = build_page(make_inputs(broken=broken), CONFIG, seed=0)
    placeholders = [attributes for tag, attributes in Reader(page).tags if attributes.get("class") == "pic broken"]
    assert len(placeholders) >= 6
    assert all(attributes["title"] for attributes in placeholders)


def test_a_missing_image_says_that_nothing_was_drawn():
    page = build_page(make_inputs(), replace(CONFIG, num_users=4), seed=0)
    assert "nothing was drawn" in page


def test_the_same_inputs_give_the_same_bytes():
    assert build_page(make_inputs(), CONFIG, seed=0) == build_page(make_inputs(), CONFIG, seed=0)


def test_an_almost_empty_run_still_gives_a_page():
    summary = make_summary("word") | {"methods": {}, "differences": {}, "num_users": 0, "num_cases": 0}
    inputs = replace(make_inputs(summary=summary), cases=[], labels={}, scores={}, rejected=[], curves={}, generated={})
    page = build_page(inputs, CONFIG, seed=0)
    Reader(page)
    assert "No row was rejected" in page
    assert "Styles" not in page


def test_the_retrieved_item_is_framed_with_its_rank_and_weight():
    tags = Reader(build_page(make_inputs(), replace(CONFIG, num_users=4), seed=0)).tags
    assert sum(attributes.get("class") == "slot hit" for _, attributes in tags) == 1
    assert any("retrieved 1, similarity 0.500, weight 0.900" in (attributes.get("title") or "") for _, attributes in tags)


def test_verdicts_are_ticks_and_crosses():
    text = Reader(build_page(make_inputs(), CONFIG, seed=0)).text
    assert "✓ style" in text
    assert "✗ concept" in text


def test_rejected_rows_are_counted_and_cut():
    text = Reader(build_page(make_inputs(), CONFIG, seed=0)).text
    assert "4 rejected" in text
    assert "and 2 more" in text


def test_the_data_sets_counts_stand_beside_the_papers():
    counts = {"items": 9_700, "users": 4_680, "interactions": 88_920, "cases": {"train": 3_744, "val": 468, "test": 468}, "missing_images": 42}
    table = {"users": {"found": 4_680, "paper": 4_689, "deviation": -0.0019}}
    text = Reader(build_page(replace(make_inputs(), dataset=counts | {"table_2": table}), CONFIG, seed=0)).text
    assert "users in the paper's Table 24,689; here 4,680 (-0.2%)" in text
    assert "42 of 9,742 (0.4%)" in text
    assert "0 of 9,700" in Reader(build_page(replace(make_inputs(), dataset=counts | {"missing_images": 0}), CONFIG, seed=0)).text


def test_floor_and_ceiling_are_never_the_best():
    entries = {"original": make_entry(9.0), "truth": make_entry(10.0), "sd": make_entry(1.0), "ragar": make_entry(2.0)}
    assert find_best(entries, METRICS["cis"]) == {"ragar"}
    assert find_best(entries, METRICS["effnet_sem"]) == {"sd"}
    assert find_best(entries, METRICS["rank_original"]) == set()
    assert find_best({"sd": make_entry(1.0), "ragar": make_entry(1.0)}, METRICS["cis"]) == set()


def test_values_are_written_with_scale_sign_and_unit():
    assert format_value(0.6543, METRICS["style_accuracy"]) == "65.4%"
    assert format_value(-0.0166, METRICS["delta_r"]) == "−0.017"
    assert format_value(-0.0001, METRICS["delta_r"]) == "0.000"
    assert format_value(1.234, METRICS["cis"], signed=True) == "+1.23"
    assert format_value(None, METRICS["cis"]) == "–"
    assert format_interval({"low": 0.5, "high": 0.75}, METRICS["style_accuracy"]) == "50.0 … 75.0"
    assert format_interval({"low": None, "high": None}, METRICS["cis"]) == ""


def test_a_difference_counts_only_if_its_interval_excludes_zero():
    assert judge_difference({"low": 0.1, "high": 0.5}, METRICS["cis"]) == "win"
    assert judge_difference({"low": 0.1, "high": 0.5}, METRICS["effnet_sem"]) == "loss"
    assert judge_difference({"low": -0.1, "high": 0.5}, METRICS["cis"]) == ""
    assert judge_difference({"low": None, "high": None}, METRICS["cis"]) == ""


def test_methods_stand_in_reading_order():
    assert sort_methods(["truth", "ragar", "zeta", "sd", "original", "global"]) == ["original", "sd", "global", "zeta", "ragar", "truth"]


def test_ticks_are_round_and_inside():
    assert choose_ticks(0, 100, count=5) == [0, 50, 100]
    assert choose_ticks(0, 100, count=6) == [0, 20, 40, 60, 80, 100]
    assert choose_ticks(-0.9, 2.1, count=4) == pytest.approx([0, 1, 2])
    for low, high in ((0, 1e-9), (-5, 5), (1e5, 1.0001e5), (3, 3)):
        ticks = choose_ticks(low, high, count=4)
        assert len(ticks) <= 4
        assert all(low - 1e-6 <= tick <= high + 1e-6 for tick in ticks)


def test_axis_numbers_tell_neighbours_apart():
    assert format_ticks([1.07, 1.071, 1.072]) == ["1.070", "1.071", "1.072"]
    assert format_ticks([-50, 0, 50]) == ["−50", "0", "50"]
    assert format_ticks([20_000, 40_000]) == ["20k", "40k"]
    assert format_ticks([0.002]) == ["0.002"]
    assert format_ticks([]) == []


def test_charts_of_one_point_equal_values_and_no_interval_are_whole():
    marks = [Mark("a", 1.0, None, None, "main", "1"), Mark("b", 1.0, 1.0, 1.0, "drawn", "1")]
    for chart in (draw_intervals(marks, label="x"), draw_curve([(1.0, 2.0)], label="y"), draw_curve([(0, 5.0), (1, 5.0)], label="z")):
        assert "nan" not in chart
        Reader(chart)


def test_long_curves_are_shortened_and_smoothed_without_moving_their_mean():
    points = [(float(x), float(x % 2)) for x in range(1000)]
    short = average_blocks(points, limit=240)
    assert len(short) == 200
    assert sum(y for _, y in short) / 200 == pytest.approx(0.5, abs=0.02)  # blocks of five hold two or three ones
    assert all(abs(y - 0.5) < 0.1 for _, y in smooth(points))


def test_curves_leave_out_what_is_no_number(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_text("step,loss,note,gap\n0,1.5,a,\n1,nan,b,2\n2,0.5,c,inf\n")
    assert read_curves(path) == Curves("step", {"loss": [(0.0, 1.5), (2.0, 0.5)], "gap": [(1.0, 2.0)]})
    path.write_text("step,loss\n")
    assert read_curves(path) == Curves()


def test_users_and_concepts_are_chosen_by_seed_and_repeatably():
    cases = [{"case_id": f"k{n}", "user_id": f"u{n // 2}"} for n in range(40)]
    chosen = choose_cases(cases, 5, seed=1)
    assert chosen == choose_cases(list(reversed(cases)), 5, seed=1)
    assert chosen != choose_cases(cases, 5, seed=2)
    assert len({case["user_id"] for case in chosen}) == 5
    assert len(choose_cases(cases, 100, seed=1)) == 20
    labels = {"a": ("neon", "dog"), "b": ("sepia", "dog"), "c": ("neon", "cat")}
    assert choose_concepts(labels, 5, seed=0) == [("dog", {"neon": "a", "sepia": "b"})]


def test_thumbnails_are_shrunk_but_never_enlarged_and_small_ones_keep_every_pixel():
    small = Image.open(io.BytesIO(make_png(0, 20)))
    for image, side, expected in ((small, 96, (20, 20)), (small.resize((400, 200)), 192, (192, 96))):
        data = base64.b64decode(encode_thumbnail(image, side).removeprefix("data:image/webp;base64,"))
        assert Image.open(io.BytesIO(data)).size == expected
    data = base64.b64decode(encode_thumbnail(small, 96).removeprefix("data:image/webp;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), np.asarray(small))


def test_bytes_of_the_data_never_reach_the_page_undecoded():
    evil = make_png(0) + b"<script>alert(1)</script>"
    picture = build_picture(evil, side=96, title="t")
    assert base64.b64encode(b"<script>")[:8].decode() not in picture
    assert picture.startswith("<img")


def test_elements_escape_text_and_attributes_but_not_markup():
    assert element("p", "<b>", element("i", "&"), class_="a", title='"') == '<p class="a" title="&quot;">&lt;b&gt;<i>&amp;</i></p>'
    assert escape("a\x00\ud800b") == "a\ufffd\ufffdb"
    assert element("td", 0, None, colspan=2, title=None) == '<td colspan="2">0</td>'


def test_params_are_flattened_with_dotted_names():
    assert flatten_params({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None}) == [("a.b", "1"), ("a.c.d", "[1, 2]"), ("e", "None")]
