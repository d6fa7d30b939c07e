"""Tiny data sets in the official raw formats, with the traps that real files hold. Every maker fills an empty folder and returns it."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = ("tomato", "gold", "skyblue", "seagreen", "orchid", "sienna")


def draw_image(seed: int, size: tuple[int, int] = (48, 48)) -> Image.Image:
    """Draw a coloured disc on white: something that an encoder can tell apart."""
    image = Image.new("RGB", size, "white")
    rng = random.Random(seed)
    left, top = rng.randrange(size[0] // 3), rng.randrange(size[1] // 3)
    ImageDraw.Draw(image).ellipse((left, top, size[0] - left, size[1] - top), fill=COLOURS[seed % len(COLOURS)], outline="black", width=2)
    return image


def save_odd_images(folder: Path, stems: Sequence[str], *, suffix: str | None = None, size: tuple[int, int] = (48, 48)) -> list[str]:
    """Save one image a stem, in turn grey, with alpha, with a palette, CMYK, plain; return the file names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for n, stem in enumerate(stems):
        mode = ("L", "RGBA", "P", "CMYK", "RGB")[n % 5]
        image = draw_image(n, size)
        if mode == "RGBA":
            image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, size[0]).astype(np.uint8), (size[1], 1))))
        else:
            image = image.convert(mode)
        ending = suffix or (".jpg" if mode in ("L", "CMYK") else ".png")
        kind = "JPEG" if mode in ("L", "CMYK") else "PNG"  # a suffix may lie about the format, as it does in real data
        names.append(f"{stem}{ending}")
        (folder / names[-1]).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / names[-1], format=kind)
    return names


def write_csv_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a comma-separated file, quoted where it must be."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def make_folder(raw: Path, *, num_items: int = 40, num_users: int = 12, per_user: int = 8) -> Path:
    """A catalogue of one's own: ids that look like numbers, titles with commas and quotes, repeated interactions, short users, a missing image."""
    ids = [f"{n:03d}" for n in range(num_items)]
    names = save_odd_images(raw / "images", ids)
    rows = [[item_id, name, f'Mug "No. {n}", blue, 0.3 l', "cups, plates"] for n, (item_id, name) in enumerate(zip(ids, names, strict=True))]
    rows.append(["9999", "gone.jpg", "an item whose image is not there", "cups"])
    write_csv_rows(raw / "items.csv", ["item_id", "image", "text", "category"], rows)
    rng = random.Random(0)
    interactions = []
    for user in range(num_users):
        chosen = rng.sample(ids, per_user)
        interactions += [[f"{user:02d}", item_id, 1_000 + 10 * time] for time, item_id in enumerate([*chosen, chosen[0]])]
    interactions += [["short", ids[0], 5], ["short", "9999", 6]]
    rng.shuffle(interactions)
    write_csv_rows(raw / "interactions.csv", ["user_id", "item_id", "timestamp"], interactions)
    return raw
