"""Draw `docs/gallery.png`, the README's picture, from a finished run: `python -m pipeline.report.picture`.

One row per user: the history (retrieved items framed), the reference, the truth, and each drawn image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pipeline.artifacts import read_table
from pipeline.data.images import ImageError, decode_drawing
from pipeline.endings import run_command
from pipeline.report.inputs import list_items
from pipeline.schemas import CASES, RETRIEVED
from pipeline.table_images import ImageColumn
from pipeline.terminal import say

TARGET = Path("docs/gallery.png")
METHODS = ("sd", "keywords", "ti", "pmg", "retrieved", "ragar")  # columns, those of methods that were asked for
NUM_USERS = 8
NUM_HISTORY = 10
TILE, GAP, HEAD = 64, 6, 18  # pixels
FRAME, PAPER, INK = "#e8590c", "white", "#333333"


def draw_picture(data: Path, *, num_users: int = NUM_USERS) -> Image.Image:
    """Draw the first `num_users` test users that every method of the run has drawn; retrieved items come first in a history.

    ValueError if there is no such user.
    """
    columns = {method: ImageColumn(data / "generation" / method / "generated.parquet", key="case_id") for method in METHODS}
    drawn = {method: images for method, images in columns.items() if len(images)}
    retrieved: dict[str, set[str]] = {}
    for row in read_table(data / "retrieval" / "retrieved.parquet", RETRIEVED).to_pylist():
        retrieved.setdefault(row["case_id"], set()).add(row["item_id"])
    cases = [
        case
        for case in read_table(data / "dataset" / "cases.parquet", CASES).to_pylist()
        if drawn and case["truth_id"] and all(case["case_id"] in images for images in drawn.values())
    ][:num_users]
    if not cases:
        raise ValueError(
            f"{data} holds no case with a truth that all its methods have drawn ({', '.join(drawn) or 'none'}), so there is nothing to show."
        )
    for case in cases:
        framed = retrieved.get(case["case_id"], set())
        case["history"] = sorted(case["history"], key=lambda item_id: item_id not in framed)[:NUM_HISTORY]
    items = ImageColumn(data / "dataset" / "items.parquet").read(list_items(cases, []))
    images = {method: column.read([case["case_id"] for case in cases]) for method, column in drawn.items()}
    num_columns = NUM_HISTORY + 2 + len(drawn)
    canvas = Image.new("RGB", (num_columns * (TILE + GAP) + 3 * GAP, HEAD + len(cases) * (TILE + GAP) + GAP), PAPER)
    draw_heads(canvas, list(drawn))
    for line, case in enumerate(cases):
        for column, item_id in enumerate(case["history"]):
            paste_tile(canvas, items[item_id], column, line, framed=item_id in retrieved.get(case["case_id"], set()))
        others = [items[case["reference_id"]], items[case["truth_id"]], *(images[method][case["case_id"]] for method in drawn)]
        for column, image in enumerate(others, start=NUM_HISTORY):
            paste_tile(canvas, image, column, line, framed=False)
    return canvas


def locate_tile(column: int, line: int) -> tuple[int, int]:
    """Return a tile's upper left corner; history, known images and drawn images stand a little apart."""
    apart = (column >= NUM_HISTORY) + (column >= NUM_HISTORY + 2)
    return GAP + column * (TILE + GAP) + apart * GAP, HEAD + line * (TILE + GAP) + GAP // 2


def paste_tile(canvas: Image.Image, data: bytes, column: int, line: int, *, framed: bool) -> None:
    """Paste one image, or leave its place empty if it cannot be decoded."""
    x, y = locate_tile(column, line)
    try:
        canvas.paste(decode_drawing(data).resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y))
    except ImageError:
        return
    if framed:
        ImageDraw.Draw(canvas).rectangle((x - 2, y - 2, x + TILE + 1, y + TILE + 1), outline=FRAME, width=2)


def draw_heads(canvas: Image.Image, methods: Sequence[str]) -> None:
    """Write the columns' names."""
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    for column, head in ((0, "history (framed: retrieved)"), (NUM_HISTORY, "reference"), (NUM_HISTORY + 1, "truth")):
        pen.text((locate_tile(column, 0)[0], 2), head, fill=INK, font=font)
    for column, method in enumerate(methods):
        pen.text((locate_tile(NUM_HISTORY + 2 + column, 0)[0], 2), method, fill=INK, font=font)


def main() -> None:
    """Draw the picture from `data/`."""
    TARGET.parent.mkdir(exist_ok=True)
    draw_picture(Path("data")).save(TARGET, optimize=True)
    say(f"wrote {TARGET}")


if __name__ == "__main__":
    run_command(main, folders=[TARGET])
