"""Links in data/extra. Run: python -m pytest tests/pipeline/data/test_extra_links.py"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.extra import add_extra_items
from pipeline.data.items import ItemRows
from tests.broken_items import draw_halves, save_image

GOOD = save_image(draw_halves("red"))
STORED = {"image_size": 16, "image_format": "png"}


def test_a_link_to_a_file_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    folder, secret = tmp_path / "extra", tmp_path / "secret"
    folder.mkdir()
    secret.write_bytes(GOOD)
    for name in ("a.png", "b.txt"):
        (folder / "b.png").write_bytes(GOOD)
        (folder / name).symlink_to(secret)
        with pytest.raises(ValueError, match=rf"extra/{name} is a link that leads outside of .*extra; put the file itself there"):
            add_extra_items(folder, ItemRows(), **STORED)
        (folder / name).unlink()


def test_a_link_inside_of_the_folder_and_a_linked_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.png").write_bytes(GOOD)
    (tmp_path / "disk" / "b.png").symlink_to("a.png")
    (tmp_path / "disk" / "loop.png").symlink_to("loop.png")
    (tmp_path / "extra").symlink_to(tmp_path / "disk")
    items = ItemRows()
    assert add_extra_items(tmp_path / "extra", items, **STORED) == (["extra-a.png", "extra-b.png"], [])
    assert list(items) == ["extra-a.png", "extra-b.png"]
