"""Tiny data sets in the official raw formats, with the traps that real files hold. Every maker fills an empty folder and returns it."""

from __future__ import annotations

import csv
import hashlib
import json
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


def make_ml_latest(raw: Path, *, num_movies: int = 45, num_people: int = 8, per_person: int = 15, line_end: str = "\n") -> Path:
    """MovieLens: titles with commas and quotes, no genres, an empty tmdbId, ratings ordered by movie and not by time, a movie without poster."""
    ids = [str(3 * n + 1) for n in range(num_movies)]
    save_odd_images(raw / "posters", ids, suffix=".jpg", size=(40, 60))
    titles = ["American President, The (1995)", 'Amélie "Fabuleux" (Le fabuleux destin, 2001) (2001)', "Babylon 5", "Toy Story (1995)"]
    movies = [[i, titles[n % 4], "(no genres listed)" if n % 4 == 2 else "Drama|Romance"] for n, i in enumerate(ids)]
    write_csv_rows(raw / "movies.csv", ["movieId", "title", "genres"], [*movies, ["193609", "Nobody Has a Poster (2018)", "Comedy"]])
    links = [[i, f"{n:07d}", "" if n % 5 == 0 else 100 + n] for n, i in enumerate(ids)]
    write_csv_rows(raw / "links.csv", ["movieId", "imdbId", "tmdbId"], [*links, ["193609", "0064176", ""]])
    rng = random.Random(1)
    ratings = []
    for person in range(1, num_people + 1):
        chosen = sorted(rng.sample(ids, per_person), key=int)
        ratings += [[person, movie, rng.choice((0.5, 3.0, 4.5)), 964_980_000 + rng.randrange(10_000)] for movie in chosen]
        ratings.append([person, "193609", 5.0, 964_000_000])
    ratings += [[num_people + 1, movie, 4.0, 964_000_000] for movie in ids[:3]]  # too few for a chunk
    write_csv_rows(raw / "ratings.csv", ["userId", "movieId", "rating", "timestamp"], ratings)
    if line_end != "\n":
        for name in ("ratings", "movies", "links"):
            path = raw / f"{name}.csv"
            path.write_bytes(path.read_bytes().replace(b"\n", line_end.encode()))
    return raw


def make_pog(raw: Path, *, num_items: int = 60, num_users: int = 14) -> Path:
    """POG: hashes as categories, Chinese titles with commas, `//` URLs, ids that look like numbers, repeated clicks, short users, lost images."""
    ids = [f"{n:05d}" if n % 2 else f"9f{n:04x}c0ffee" for n in range(num_items)]
    save_odd_images(raw / "images", ids[2:])
    url = ("//img.alicdn.com/a/{}.jpg", "http://img.alicdn.com/b/{}.jpg")
    categories = [hashlib.md5(str(n).encode()).hexdigest() for n in range(7)]  # 32 digits, as in the official files
    lines = [f"{i},{categories[n % 7]},{url[n % 2].format(i)},秋季新款,连衣裙, 修身 第{n}款" for n, i in enumerate(ids)]
    (raw / "item_data.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (raw / "outfit_data.txt").write_text(f"o1,{ids[0]};{ids[1]}\n", encoding="utf-8")
    rng = random.Random(2)
    clicks = []
    for user in range(num_users):
        items = rng.sample(ids[2:], 8)
        clicks.append(f"u{user},{';'.join([ids[user % 2], *items[:5]])},o{user}")
        clicks.append(f"u{user},{';'.join([*items[3:], items[0]])},o1")
    clicks += [f"short{n},{ids[0]};{ids[5]};{ids[0]},o1" for n in range(5)]
    rng.shuffle(clicks)
    (raw / "user_data.txt").write_text("\n".join(clicks) + "\n", encoding="utf-8")
    return raw


def make_ser30k(raw: Path, *, image_level: bool = False, num_themes: int = 6, per_theme: int = 8) -> Path:
    """SER30K: topics with numbers and non-ASCII names, stickers with and without words, all image modes, either folder of annotations."""
    topics = [f"{n:02d}-panda-bear" if n % 2 else f"{n:02d}-café_cats" for n in range(num_themes)]
    entries = []
    for n, topic in enumerate(topics):
        for m, name in enumerate(save_odd_images(raw / "Images" / topic, [f"sticker_{m}" for m in range(per_theme)])):
            entries.append({"topic": topic, "file_name": name, "anno": (n + m) % 7 + 1, "text": "" if m % 2 else "good night, \u5b9d"})
    entries.append({"topic": topics[0], "file_name": "gone.png", "anno": 1, "text": "gone"})
    folder = raw / "Annotations" / "image-level" if image_level else raw / "Annotations"
    folder.mkdir(parents=True)
    for n, split in enumerate(("train", "val", "test")):
        (folder / f"{split}.json").write_text(json.dumps({"annotations": entries[n::3]}), encoding="utf-8")
    return raw


def make_pigeon(raw: Path, *, stickers: bool = False, num_items: int = 40, num_users: int = 10) -> Path:
    """Pigeon: pickled dicts of dicts with NumPy numbers as keys, windows of 5 + 1, an unused place, a lost image."""
    folder, images = raw / "processed_seq", "Images" if stickers else "poster"
    folder.mkdir(parents=True)
    names = save_odd_images(raw / images, [f"set_{n % 3}/{n}" for n in range(num_items)])
    names[num_items - 1] = "set_0/gone.jpg"
    np.save(folder / "all_image_paths.npy", np.array([*names, ""], dtype=object), allow_pickle=True)
    if stickers:
        info: dict = {n: {"emo": "happiness", "text": "hi, you"} for n in range(num_items)}
    else:
        info = {np.int64(n): {"title": f"Heat, The {n}", "genres": ["Action", "Drama"], "intro": "A film."} for n in range(num_items)}
    np.save(folder / f"mapped_{'anno_dict' if stickers else 'movies'}.npy", info, allow_pickle=True)
    rng = random.Random(3)
    tables: dict[str, dict] = {"train": {}, "valid": {}, "test": {}}
    for user in range(num_users):
        sequence = [rng.randrange(num_items - 1) for _ in range(24)] + [num_items - 1] * (user == 0)
        windows = [sequence[n : n + 6] for n in range(len(sequence) - 5)]
        for name, part in zip(tables, (windows[:-4], windows[-4:-2], windows[-2:]), strict=True):
            tables[name][np.int64(user)] = {f"{user % 3}": part}
    for name, table in tables.items():
        np.save(folder / f"{name}.npy", table, allow_pickle=True)
    return raw
