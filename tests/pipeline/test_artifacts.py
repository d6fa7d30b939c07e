"""Tables, JSON and tensors on disk. Run: python -m pytest tests/pipeline/test_artifacts.py"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from pipeline import artifacts
from pipeline.artifacts import build_table, get_matrix, read_provenance, read_table, read_tensors, write_table, write_tensors
from pipeline.columns import pack_matrix, take_rows
from pipeline.json_files import write_json
from pipeline.schemas import CAPTIONS, EMBEDDINGS, ITEMS, SCORES
from pipeline.spreadsheets import write_csv
from tests.broken_items import build_item

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


@pytest.mark.parametrize("facts", ["[" * 100_000, "{", "9" * 5000, None])
def test_a_hostile_tensor_file_gets_one_sentence(tmp_path: Path, facts: str | None) -> None:
    path = tmp_path / "x.safetensors"
    if facts is None:
        path.write_bytes((2**40).to_bytes(8, "little") + b"{}")  # the length that it claims for its header
    else:
        path.write_bytes(safetensors.torch.save({"a": torch.ones(1)}, metadata={"ragar": facts}))
    with pytest.raises(ValueError, match=r"x\.safetensors is not a readable safetensors file") as error:
        read_tensors(path)
    assert "\n" not in str(error.value)


def test_json_refuses_nan_and_csv_has_the_columns_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "m.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
    write_csv(tmp_path / "c.csv", [{"a": 1, "b": 0.123456789}, {"a": 2}], ["a", "b"])
    assert (tmp_path / "c.csv").read_text() == "a,b\n1,0.123457\n2,\n"


def test_a_table_is_plain_parquet_that_anyone_can_read(tmp_path: Path) -> None:
    write_table(tmp_path / "c.parquet", ROWS, CAPTIONS, provenance={})
    assert pq.read_table(tmp_path / "c.parquet").num_rows == 2


def make_items(sizes: list[int]) -> pa.Table:
    rows = [build_item(f"{n:04d}", bytes([n % 251]) * size, text="", category="") for n, size in enumerate(sizes)]
    return build_table(rows, ITEMS)


def test_row_groups_of_images_are_bounded_by_their_bytes_and_the_bytes_do_not_depend_on_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "ROW_GROUP_BYTES", 1000)
    table = make_items([300] * 10)
    write_table(tmp_path / "whole.parquet", table, ITEMS, provenance={})
    write_table(tmp_path / "stream.parquet", iter([table.slice(0, 1), table.slice(1, 6), table.slice(7)]), ITEMS, provenance={})
    write_table(tmp_path / "shuffled.parquet", table.take(list(range(9, -1, -1))), ITEMS, provenance={})
    assert len({(tmp_path / f"{name}.parquet").read_bytes() for name in ("whole", "stream", "shuffled")}) == 1
    metadata = pq.read_metadata(tmp_path / "whole.parquet")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [3, 3, 3, 1]


def test_a_stream_that_repeats_a_key_or_goes_back_is_refused(tmp_path: Path) -> None:
    table, path = make_items([1, 1, 1]), tmp_path / "items.parquet"
    with pytest.raises(ValueError, match="'0001'} occurs twice"):
        write_table(path, iter([table.slice(0, 2), table.slice(1)]), ITEMS, provenance={})
    with pytest.raises(AssertionError, match="out of order"):
        write_table(path, iter([table.slice(1), table.slice(0, 1)]), ITEMS, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_a_stream_without_rows_is_an_empty_table(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", iter([]), CAPTIONS, provenance={})
    write_table(tmp_path / "b.parquet", [], CAPTIONS, provenance={})
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(ValueError, match="no rows, so the length of semantic is unknown"):
        write_table(tmp_path / "c.parquet", iter([]), EMBEDDINGS, provenance={})


def test_packed_vectors_of_a_ledger_become_vectors(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    packed = pa.table({"item_id": ["a", "b"], **{name: pack_matrix(vectors) for name in ("semantic", "visual", "clip_image")}})
    write_table(tmp_path / "stream.parquet", iter([packed]), EMBEDDINGS, provenance={})
    rows = [{"item_id": name, "semantic": v, "visual": v, "clip_image": v} for name, v in zip("ab", vectors, strict=True)]
    write_table(tmp_path / "rows.parquet", rows, EMBEDDINGS, provenance={})
    assert (tmp_path / "stream.parquet").read_bytes() == (tmp_path / "rows.parquet").read_bytes()


@pytest.mark.slow
def test_a_column_of_more_than_two_gigabytes_is_sorted_written_and_read(tmp_path: Path) -> None:
    one = make_items([30 * 2**20])
    names = [f"{n:04d}" for n in range(71, -1, -1)]
    table = pa.concat_tables([one] * len(names)).set_column(0, one.schema.field(0), [names])  # 2.1 GiB, of which one image is in memory
    path = tmp_path / "items.parquet"
    write_table(path, table, ITEMS, provenance={})
    again = read_table(path, ITEMS)
    assert again["item_id"].to_pylist() == names[::-1]
    assert pc.sum(pc.binary_length(pc.struct_field(again["image"], "bytes")).cast(pa.int64())).as_py() == 72 * 30 * 2**20
    assert take_rows(again, np.array([70, 1]))["item_id"].to_pylist() == ["0070", "0001"]
