"""A catalogue that holds what people really feed a pipeline, all of it at once, and what must become of each.

The tables are as a European spreadsheet and as pandas save them; the pictures are odd in the ways that cameras, scanners, shops and other
systems make them; the texts are titles of shops, codes, words for "missing", formulas and hidden characters.
"""

from __future__ import annotations

import random
import unicodedata
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.broken_items import build_chunk, build_exif, draw_halves, draw_noise, save_image
from tests.raw_sets import draw_image

SIDE = 48
LONG_TITLE = "Hand-made ceramic coffee mug with a wide handle and a matte glaze, dishwasher safe, gift for colleagues and friends " * 3
HIDDEN = "mug\x1b[31m red\u202egnp.exe"
FORMULA = "=HYPERLINK(0) mug"
MARKUP = '<script>alert(1)</script><b>"bold" mug'
CODE = "d41d8cd98f00b204e9800998ecf8427e"
NUM_PLAIN, NUM_USERS, PER_USER = 40, 12, 9

# item_id -> (text, category) of the items table, for those whose row holds something odd
TEXTS = {
    "turned": ("Café mug", "mugs"),
    "longtitle": (" ".join(LONG_TITLE.split()), "mugs"),
    "hidden": (HIDDEN, "mugs"),
    "formula": (FORMULA, "mugs"),
    "markup": (MARKUP, "mugs"),
    "camera": ("", "mugs"),  # the text was IMG_0001.JPG
    "missingwords": ("missingwords", ""),  # N/A and NULL: what the file is called says something
    "coded": ("coded mug", CODE),  # kept, but never embedded
}
# item_id -> what the report and the table of rejected rows say of its picture
UNUSABLE = {
    "blank": "The image is blank: practically all of its pixels have one colour.",
    "pixel": "The image has 1 x 1 pixels, too small for a picture: each side must have at least 8.",
    "cut": "The PNG image is damaged or truncated",
    "lost": "There is no such file; did you mean gone.png?",
}
FOUND = ("turned", "noalpha", "workflow", "shout", "slashed", "café", "animated", "gone")  # pictures that must be found and read


def make_odd_catalogue(raw: Path, extra: Path) -> Path:
    """Fill the raw folder of the data set `folder`, and the folder of extra items; return the raw folder."""
    images = raw / "images"
    images.mkdir(parents=True)
    save_pictures(images)
    plain = [f"plain-{n:02d}" for n in range(NUM_PLAIN)]
    for n, name in enumerate(plain):
        draw_image(n, (SIDE, SIDE)).save(images / f"{name}.png")
    rows = [[name, "", f"Mug No. {n}; blue, 0.3 l", "mugs"] for n, name in enumerate(plain)]
    rows += [[name, "", "a mug", "mugs"] for name in ("noalpha", "workflow", "shout", "animated", "gone", "blank", "pixel", "cut")]
    rows += [["slashed", "images\\slashed.png", "a mug", "mugs"], ["café", "", "a mug", "mugs"], ["lost", "gone.jpg", "a mug", "mugs"]]
    rows += [["turned", "TURNED.JPG", TEXTS["turned"][0], "mugs"], ["longtitle", "", LONG_TITLE, "mugs"], ["hidden", "", HIDDEN, "mugs"]]
    rows += [
        ["formula", "", FORMULA, "mugs"],
        ["markup", "", MARKUP, "mugs"],
        ["camera", "", "IMG_0001.JPG", "mugs"],
        ["missingwords", "", "N/A", "NULL"],
    ]
    rows += [["coded", "", "coded mug", CODE], ["Thumbs.db", "Thumbs.db", "", ""]]
    write_spreadsheet(raw / "items.csv", ["Item ID", "image", "text", "category"], rows)
    write_interactions(raw / "interactions.parquet", [*plain, *FOUND, *(name for name in TEXTS if name not in FOUND)])
    (raw / "references.csv").write_text("user_id\titem_id\nuser 1\tlongtitle\nuser 2\tmarkup\n", encoding="utf-8-sig")
    write_extra(extra)
    return raw


def save_pictures(images: Path) -> None:
    """Save the pictures that are odd, and the files that other systems leave beside pictures."""
    sideways = draw_halves("red", SIDE).crop((0, 0, SIDE, SIDE // 2))
    broken_rational = (0x011A, 5, 1, b"\xff\xff\xff\x7f")
    (images / "turned.jpg").write_bytes(save_image(sideways, "JPEG", quality=95, exif=build_exif([(0x0112, 3, 1, b"\x06"), broken_rational])))
    bmp = draw_halves("blue", SIDE).convert("RGBA")
    bmp.putalpha(0)
    (images / "noalpha.bmp").write_bytes(save_image(bmp, "BMP"))
    png = save_image(draw_image(1, (SIDE, SIDE)))
    workflow = build_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 3_000_000))
    (images / "workflow.png").write_bytes(png[:33] + workflow + png[33:])
    (images / "shout.WEBP").write_bytes(save_image(draw_image(2, (SIDE, SIDE)), "WEBP"))
    (images / "slashed.png").write_bytes(save_image(draw_image(3, (SIDE, SIDE))))
    (images / f"{unicodedata.normalize('NFD', 'café')}.png").write_bytes(save_image(draw_image(4, (SIDE, SIDE))))
    frames = [Image.new("RGB", (SIDE, SIDE)), draw_halves("green", SIDE)]
    (images / "animated.gif").write_bytes(save_image(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    for n, name in enumerate((*TEXTS, "gone")):
        if name != "turned":
            draw_image(n, (SIDE, SIDE)).save(images / f"{name}.png")
    (images / "blank.jpg").write_bytes(save_image(Image.new("RGB", (SIDE, SIDE), "beige"), "JPEG"))
    (images / "pixel.gif").write_bytes(save_image(Image.new("RGBA", (1, 1)), "GIF"))
    (images / "cut.png").write_bytes(save_image(draw_noise(0, SIDE))[:900])
    for name in (".DS_Store", "Thumbs.db", "._plain-00.png"):
        (images / name).write_bytes(b"\0\5\x16\7")


def write_spreadsheet(path: Path, header: list[str], rows: list[list[str]]) -> None:
    """Write as a European spreadsheet does: semicolons, an old encoding, two unnamed columns and empty rows at the end."""

    def quote(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if set(cell) & set(';"\n') else cell

    lines = [";".join([*map(quote, row), "", ""]) for row in [header, *rows, *[[""] * len(header)] * 3]]
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-16")


def write_interactions(path: Path, item_ids: list[str]) -> None:
    """Write as pandas does: ids as a dictionary and as bytes, times in nanoseconds with a zone, one of them and one user missing."""
    draw, start = random.Random(0), datetime(2024, 3, 1, 10, tzinfo=UTC)
    rows = [(f"user {n}", item_id) for n in range(NUM_USERS) for item_id in draw.sample(item_ids, PER_USER)]
    covered = {item_id for _, item_id in rows}
    rows += [(f"user {n % NUM_USERS}", item_id) for n, item_id in enumerate(item_ids) if item_id not in covered]
    times: list[datetime | None] = [start + timedelta(minutes=n) for n in range(len(rows))]
    rows += [("user 0", item_ids[0]), ("", item_ids[1])]
    times += [None, start]
    users, items = zip(*rows, strict=True)
    columns = {
        "user_id": pa.array([user.encode() for user in users], pa.binary()),
        "item_id": pa.array(items).dictionary_encode(),
        "timestamp": pa.array(times, pa.timestamp("ns", tz="UTC")),
        "note": pa.nulls(len(rows)),
    }
    pq.write_table(pa.table(columns), path)


def write_extra(extra: Path) -> None:
    """Write extra items: one whose text is in UTF-16, and one that is blank."""
    (extra / "hat.png").write_bytes(save_image(draw_image(5, (SIDE, SIDE))))
    (extra / "hat.txt").write_text("Größe M, ein Hut", encoding="utf-16")
    (extra / "white.png").write_bytes(save_image(Image.new("RGB", (SIDE, SIDE), "white")))
