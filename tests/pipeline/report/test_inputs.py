"""What is read for the page, and what is chosen. Run: python -m pytest tests/pipeline/report/test_inputs.py -q"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.artifacts import write_table
from pipeline.report.inputs import Curves, Shown, choose_cases, choose_concepts, count_users, list_drawn_cases, read_curves, read_shown
from pipeline.report.sections import flatten_params
from pipeline.schemas import GENERATED, ITEMS
from tests.pipeline.report.made import CONFIG


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


def test_params_are_flattened_with_dotted_names():
    assert flatten_params({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None}) == [("a.b", "1"), ("a.c.d", "[1, 2]"), ("e", "None")]


def write_project(folder: Path, *, num_items: int = 3000) -> list[dict]:
    """Write items (three row groups) and one method's images, and return cases that name a few of them."""
    rows = [
        {"item_id": f"i{n:04}", "image": {"bytes": f"image {n}".encode(), "path": None}, "text": f"t{n}", "category": "", "image_sha256": ""}
        for n in range(num_items)
    ]
    write_table(folder / "items.parquet", rows, ITEMS, provenance={})
    cases = [{"case_id": f"k{n}", "user_id": f"u{n}", "history": ["i0001", "gone"], "reference_id": "i0002", "truth_id": None} for n in range(2)]
    drawn = [{"method": "ragar", "case_id": "k0", "image": {"bytes": b"drawn", "path": None}}]
    write_table(folder / "ragar.parquet", drawn, GENERATED, provenance={})
    write_table(folder / "none.parquet", [], GENERATED, provenance={})
    return cases


def read(folder: Path, *names: str, cases: list[dict], labels: dict) -> Shown:
    paths = [folder / f"{name}.parquet" for name in names]
    return read_shown(folder / "items.parquet", paths, cases=cases, labels=labels, config=CONFIG, seed=0)


def test_only_the_images_that_the_page_shows_are_read(tmp_path, monkeypatch):
    cases = write_project(tmp_path)
    whole, groups = [], []
    read_columns, iter_batches = pq.ParquetFile.read, pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, columns=None: whole.append(columns) or read_columns(self, columns=columns))
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *args, row_groups, **options: groups.extend(row_groups) or iter_batches(self, *args, row_groups=row_groups, **options),
    )
    shown = read(tmp_path, "ragar", "none", cases=cases, labels={"i0002": ("neon", "dog"), "i2999": ("sepia", "dog")})
    assert shown.items == {f"i{n:04}": f"image {n}".encode() for n in (1, 2, 2999)}
    assert shown.item_texts == {"i0001": "t1", "i0002": "t2", "i2999": "t2999"}
    assert shown.drawn == {"ragar": {"k0": b"drawn"}}
    assert groups == [0, 2, 0]  # of the items' three row groups, and the drawn images' only one
    assert all("image" not in columns for columns in whole)


def test_a_file_of_two_methods_is_refused(tmp_path):
    cases = write_project(tmp_path)
    rows = [{"method": method, "case_id": case_id, "image": {"bytes": b"x", "path": None}} for method, case_id in (("sd", "k0"), ("ti", "k1"))]
    write_table(tmp_path / "two.parquet", rows, GENERATED, provenance={})
    with pytest.raises(ValueError, match="holds the methods sd, ti"):
        read(tmp_path, "two", cases=cases, labels={})


def test_drawn_users_are_counted_by_split_whether_they_are_measured_or_not(tmp_path):
    write_project(tmp_path)
    cases = [{"case_id": f"k{n}", "user_id": f"u{n}", "split": "train" if n else "test"} for n in range(3)]
    drawn = [{"method": "sd", "case_id": "k1", "image": {"bytes": b"drawn", "path": None}}]
    write_table(tmp_path / "sd.parquet", drawn, GENERATED, provenance={})
    chosen = list_drawn_cases([tmp_path / "ragar.parquet", tmp_path / "sd.parquet", tmp_path / "none.parquet"], cases)
    assert [case["case_id"] for case in chosen] == ["k0", "k1"]
    assert count_users(chosen) == {"train": 1, "test": 1}
