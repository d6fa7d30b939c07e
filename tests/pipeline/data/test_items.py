"""Items whose images wait on disk. Run: python -m pytest tests/pipeline/data/test_items.py"""

from __future__ import annotations

import hashlib

import pytest

from pipeline.data import items as items_module
from pipeline.data.items import ItemRows
from pipeline.work import work_dir


def make_rows() -> ItemRows:
    rows = ItemRows()
    for name in ("b", "c", "a"):
        rows.add(name, name.encode() * 1000, text=f"text {name}", category="")
    return rows


def test_rows_come_back_whole_in_their_order_or_sorted() -> None:
    rows = make_rows()
    assert list(rows) == ["b", "c", "a"]
    assert [row["item_id"] for row in rows.iterate_sorted()] == ["a", "b", "c"]
    assert rows["c"]["image"] == {"bytes": b"c" * 1000, "path": None}
    assert rows["c"]["image_sha256"] == hashlib.sha256(b"c" * 1000).hexdigest()


@pytest.mark.parametrize("memory", [1, 1500])
def test_images_beyond_the_memory_lie_in_a_file_that_no_kill_leaves_behind(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = make_rows()
    assert not work_dir().exists()
    monkeypatch.setattr(items_module, "MEMORY_BYTES", memory)
    on_disk = make_rows()
    assert on_disk == in_memory
    assert on_disk._file._rolled
    assert list(work_dir().iterdir()) == []  # the file has no name


def test_a_selection_keeps_the_order_and_shares_the_images() -> None:
    chosen = make_rows().select({"a", "b"})
    assert list(chosen) == ["b", "a"]
    assert chosen["a"]["image"]["bytes"] == b"a" * 1000


def test_an_id_is_added_once_and_a_damaged_image_is_noticed() -> None:
    rows = make_rows()
    with pytest.raises(ValueError, match="'a' is there twice"):
        rows.add("a", b"", text="", category="")
    rows._file.seek(1500)
    rows._file.write(b"x")
    with pytest.raises(ValueError, match="the image of item 'c' was damaged"):
        list(rows.iterate_sorted())
