"""Tables, JSON and tensors on disk. Run: python -m pytest tests/pipeline/test_artifacts.py"""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from pipeline.artifacts import get_matrix, read_provenance, read_table, read_tensors, write_csv, write_table, write_tensors
from pipeline.json_files import write_json
from pipeline.schemas import CAPTIONS, EMBEDDINGS, ITEMS, SCORES

ROWS = [{"item_id": "b", "caption": "a cat"}, {"item_id": "a", "caption": "a <b>dog</b>"}]


def test_rows_are_sorted_and_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    write_table(tmp_path / "1.parquet", ROWS, CAPTIONS, provenance={"seed": 0})
    write_table(tmp_path / "2.parquet", ROWS[::-1], CAPTIONS, provenance={"seed": 0})
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    assert read_table(tmp_path / "1.parquet", CAPTIONS)["item_id"].to_pylist() == ["a", "b"]
    assert read_provenance(tmp_path / "1.parquet") == {"seed": 0}


def test_bad_rows_are_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    write_table(path, ROWS, CAPTIONS, provenance={})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="occurs twice"):
        write_table(path, [*ROWS, ROWS[0]], CAPTIONS, provenance={})
    with pytest.raises(ValueError, match="`caption` holds 1 nulls"):
        write_table(path, [{"item_id": "a", "caption": None}], CAPTIONS, provenance={})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["captions.parquet"]


def test_a_foreign_or_broken_file_gets_a_clear_sentence(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    with pytest.raises(ValueError, match="does not exist"):
        read_table(path, CAPTIONS)
    write_table(path, ROWS, CAPTIONS, provenance={})
    with pytest.raises(ValueError, match="column `semantic` is missing|unknown column `caption`"):
        read_table(path, EMBEDDINGS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_table(path, CAPTIONS)


def test_named_columns_are_read_without_the_others_and_checked_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    rows = [{"item_id": i, "image": {"bytes": b"x", "path": None}, "text": i, "category": "", "image_sha256": ""} for i in "ba"]
    write_table(path, rows, ITEMS, provenance={})
    assert read_table(path, ITEMS, columns=["text"]).to_pydict() == {"item_id": ["a", "b"], "text": ["a", "b"]}
    pq.write_table(pq.read_table(path).drop_columns(["text"]), path)
    with pytest.raises(ValueError, match="column `text` is missing"):
        read_table(path, ITEMS, columns=["text"])
    assert read_table(path, ITEMS, columns=["category"]).num_rows == 2


def test_vectors_come_back_as_one_matrix(tmp_path: Path) -> None:
    rows = [{"item_id": str(i), "semantic": [i, 0.5], "visual": [1.0], "clip_image": [0.0, 0.0, i]} for i in range(3)]
    write_table(tmp_path / "e.parquet", rows, EMBEDDINGS, provenance={})
    matrix = get_matrix(read_table(tmp_path / "e.parquet", EMBEDDINGS), "semantic")
    assert matrix.tolist() == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]


def test_scores_may_have_further_metric_columns(tmp_path: Path) -> None:
    rows = [{"method": "sd", "case_id": "c", "user_id": "u", "cs": 1.5}, {"method": "ragar", "case_id": "c", "user_id": "u"}]
    write_table(tmp_path / "s.parquet", rows, SCORES, provenance={})
    assert read_table(tmp_path / "s.parquet", SCORES)["cs"].to_pylist() == [None, 1.5]


def test_tensors_keep_values_and_facts_and_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(3), "a": torch.ones(2, 2).T}
    for name in ("1", "2"):
        write_tensors(tmp_path / name, tensors, {"z": [1], "y": "é"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    found, facts = read_tensors(tmp_path / "1")
    assert facts == {"z": [1], "y": "é"}
    assert torch.equal(found["b"], torch.arange(3))
    (tmp_path / "1").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="not a readable safetensors"):
        read_tensors(tmp_path / "1")


def test_json_refuses_nan_and_csv_has_the_columns_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "m.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
    write_csv(tmp_path / "c.csv", [{"a": 1, "b": 0.123456789}, {"a": 2}], ["a", "b"])
    assert (tmp_path / "c.csv").read_text() == "a,b\n1,0.123457\n2,\n"


def test_a_table_is_plain_parquet_that_anyone_can_read(tmp_path: Path) -> None:
    write_table(tmp_path / "c.parquet", ROWS, CAPTIONS, provenance={})
    assert pq.read_table(tmp_path / "c.parquet").num_rows == 2
