"""Every data set in its official raw format through the embedded pipeline. Run: python -m pytest tests/test_data_sets.py

One's own catalogue, made of all that people feed it at once, goes to a report. The others end where the last stage has read what only they have:
their texts in the language model, their images in the encoders, their histories in the ranker and the preferences. What follows reads tables that
are alike for all five: none has labels or truths.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import read_table
from pipeline.data.images import decode_drawing
from pipeline.json_files import read_json
from pipeline.params import read_section
from pipeline.report.page import hash_script
from pipeline.schemas import CASES, ITEMS, LABELS, PREFERENCES, REJECTED
from tests import raw_sets
from tests.odd_catalogue import FOUND, SIDE, TEXTS, UNUSABLE, make_odd_catalogue
from tests.small_project import SMALL, SmallProject, list_ran

pytestmark = pytest.mark.slow

FEWER_STEPS = (  # the data are tested, not the drawing
    "comparison.ip_adapter=false",
    "models.look=embedded/look",
    "mapper.attention_steps=10",
    "mapper.mapper_steps=10",
    "mapper.max_captions=40",
    "reflection.num_steps=3",
    "ranker.epochs=5",
    "generation.steps=2",
    "keywords.max_new_tokens=12",
    "dataset.image_size=64",
    "comparison=default",
    "sd.lora_rank=0",
    "glide.tuning.num_steps=0",
)
SIZES = {text.partition("=")[0]: text for text in (*SMALL, *FEWER_STEPS)}  # of one name the last one
OF_STYLEMOJI = ("dataset", "dataset.num_concepts")
SPLITS = "dataset.splits=[0.5,0.25,0.25]"
MAKERS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "ml_latest": (raw_sets.make_ml_latest, ("dataset.history_length=6", SPLITS)),
    "pog": (raw_sets.make_pog, ("dataset.history_length=6", "dataset.num_users=12", SPLITS)),
    "ser30k": (raw_sets.make_ser30k, ("dataset.history_length=7", "dataset.stickers_per_theme=4", "dataset.num_users=12", SPLITS)),
    "pigeon": (raw_sets.make_pigeon, ()),
}


def make_project(name: str, root: Path) -> SmallProject:
    """Make a copy of the repository with the raw files of one data set, which the check of the data accepts."""
    make, overrides = MAKERS[name]
    sizes = [text for key, text in SIZES.items() if key not in OF_STYLEMOJI]
    project = SmallProject(root, (f"dataset={name}", *sizes, *overrides))
    make(project.root / read_section(project.root / "params.yaml", "dataset.raw"))
    assert "can be used" in project.run("python", "-m", "stages.dataset", "--check")
    return project


def check_tables(data: Path) -> dict[str, Any]:
    """Check what every data set must give, and return its counts."""
    counts = json.loads((data / "dataset" / "summary.json").read_text())
    assert counts["cases"]["test"] >= 3
    assert counts["missing_images"] >= 1
    rejected = read_table(data / "dataset" / "rejected.parquet", REJECTED).to_pylist()
    assert any(row["reason"].endswith("is missing: There is no such file.") for row in rejected)
    cases, items = read_table(data / "dataset" / "cases.parquet", CASES).to_pylist(), read_table(data / "dataset" / "items.parquet", ITEMS)
    known = set(items["item_id"].to_pylist())
    assert all({*case["history"], case["reference_id"]} <= known and case["reference_id"] not in case["history"] for case in cases)
    assert not any(case["truth_id"] for case in cases)
    assert read_table(data / "dataset" / "labels.parquet", LABELS).num_rows == 0
    return counts


@pytest.mark.parametrize("name", MAKERS)
def test_every_stage_that_reads_what_only_this_data_set_has_can_read_it(name: str, tmp_path: Path) -> None:
    project = make_project(name, tmp_path / "ragar")
    ran = list_ran(project.repro("preference", "ranker"))
    assert {"dataset", "captioning", "embedding", "retrieval", "keywords", "preference", "ranker"} <= set(ran)
    data = project.root / "data"
    counts = check_tables(data)
    prompts = read_table(data / "preference" / "preferences.parquet", PREFERENCES)
    assert prompts.num_rows == sum(counts["cases"].values())
    assert all(prompts["retrieved_prompt"].to_pylist())
    assert json.loads((data / "ranker" / "metrics.json").read_text())


def test_a_catalogue_of_all_that_people_feed_it_ends_in_a_report_that_tells_the_truth(tmp_path: Path) -> None:
    sizes = [text for key, text in SIZES.items() if key not in OF_STYLEMOJI]
    project = SmallProject(tmp_path / "ragar", ("dataset=folder", *sizes, "dataset.history_length=6", SPLITS))
    make_odd_catalogue(project.root / "data" / "raw" / "folder", project.root / "data" / "extra")
    checked = project.run("python", "-m", "stages.dataset", "--check")
    assert "can be used" in checked
    assert "report" in list_ran(project.repro())
    data = project.root / "data"
    items = {row["item_id"]: row for row in read_table(data / "dataset" / "items.parquet", ITEMS).to_pylist()}
    assert {name: (items[name]["text"], items[name]["category"]) for name in TEXTS} == TEXTS
    assert set(FOUND) <= items.keys()
    assert not items.keys() & {"Thumbs.db", "", *UNUSABLE}
    assert items["extra-hat.png"]["text"] == "Größe M, ein Hut"
    upright = decode_drawing(items["turned"]["image"]["bytes"])
    assert [tuple(value > 128 for value in upright.getpixel((SIDE // 2, y))) for y in (SIDE // 4, 3 * SIDE // 4)] == [
        (True, False, False),
        (False,) * 3,
    ]
    assert decode_drawing(items["noalpha"]["image"]["bytes"]).getpixel((2, 2))[2] > 200

    reasons = {row["row_key"]: row["reason"] for row in read_table(data / "dataset" / "rejected.parquet", REJECTED).to_pylist()}
    for name, reason in (UNUSABLE | {"extra-white.png": UNUSABLE["blank"]}).items():
        assert reason in reasons[name]
    left_out = [key for key in reasons if "interactions.parquet" in key]
    assert len(left_out) == 2  # without a time, without a user
    prompts = read_table(data / "preference" / "preferences.parquet", PREFERENCES).to_pylist()
    (long,) = [row["keyword_prompt"] for row in prompts if row["case_id"] == "case-user 1"]
    assert re.fullmatch(r"Hand-made ceramic coffee mug[^,]*(, [^,]+){3,}", long)  # the title gives way, the keywords stay
    counted = read_json(data / "preference" / "metrics.json")["num_cut"]
    assert min(counted.values()) == max(counted.values()) == 1

    drawn = json.loads((data / "evaluation" / "summary.json").read_text())["methods"]
    assert {"original", "sd", "keywords", "global", "ragar"} <= drawn.keys()
    page = (data / "report" / "index.html").read_text()
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert not set(page) & {"\x1b", "\u202e"}
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert [f"sha256-{digest}" for digest in digests] == [hash_script()]  # the page's own alone
    assert page.count("<script") == 1
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page).replace("http://www.w3.org", "")
    for reason in UNUSABLE.values():
        assert reason in text, reason
    assert f"2 items: {UNUSABLE['blank']}" in text  # in the catalogue and among the extra items
    assert f"1 item: {UNUSABLE['lost']}" in text
    assert "1 row: `user_id` is empty" in text
    assert "Shortened prompts" in text
    assert list_ran(project.repro()) == []
