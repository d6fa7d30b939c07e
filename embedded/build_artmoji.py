"""Build `data/raw/artmoji/pictures.parquet`: what nine artist families draw of the things in `things.csv`.

Run once as `python -m embedded.build_artmoji <node_modules>`, on a folder into which a person has installed the packages of SOURCES (their names and
versions, with `npm install --ignore-scripts`). Nothing is asked of a network here, and nobody who uses the project needs npm.

A thing's drawing is found by its code point where the package knows code points, else by its name: CLDR's (as Noto's package has it) or Unicode's,
both squashed to letters and digits. FxEmojis have names of their own, which stand in OWN_NAMES.
"""

import io
import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from pipeline.artifacts import write_table
from pipeline.data.artmoji import FAMILIES, PICTURE_SIZE, PICTURE_TABLE, PICTURES, Thing, read_things

RAW = Path(__file__).resolve().parents[1] / "data" / "raw" / "artmoji"
NAMES_BY = "noto"  # the family whose package tells CLDR's name of a code point
FLUENT_3D = "fluent-3d"  # pictures; the other packages hold SVG as JSON
SOURCES = {
    "noto": ("@iconify-json/noto", "1.2.9"),
    "noto-v1": ("@iconify-json/noto-v1", "1.2.5"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5"),
    "openmoji": ("@iconify-json/openmoji", "1.2.29"),
    FLUENT_3D: ("@lobehub/fluent-emoji-3d", "1.1.0"),
    "fluent-emoji-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "emojione": ("@iconify-json/emojione", "1.2.3"),
    "emojione-v1": ("@iconify-json/emojione-v1", "1.2.3"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2"),
}
OWN_NAMES = {  # by family and code point, where neither CLDR's nor Unicode's name is the package's
    "fxemoji": """26a1 bolt; 1f462 boot; 1f430 bunny; 1f407 bunnyside; 1f431 cat; 1f408 catside; 1f4f1 cellphone; 1f436 dog; 1f415 dogside;
        1f432 dragonhead; 1f409 dragonside; 1f48e gem; 1f439 hampster; 1f460 heels; 1f406 leopardside; 1f42d mouse; 1f401 mouseside; 1f437 pig;
        1f416 pigside; 1f381 present; 1f3ce racecar; 1f433 spurtingwhale; 2600 sunrays; 1f576 darksunglasses; 1f42f tiger; 1f405 tigerside""",
    "emojione": "1f4bb laptopcomputer",
    "emojione-v1": "1f4bb laptopcomputer",
}
BEFORE, BEHIND = ("", "black"), ("", "face", "symbol", "sign")  # words that a package's name may have besides


def read_package(modules: Path, family: str) -> Path:
    """Return a family's package folder; ValueError unless it is there in the right version."""
    name, version = SOURCES[family]
    folder = modules / name
    described = folder / "package.json"
    found = json.loads(described.read_text(encoding="utf-8"))["version"] if described.is_file() else "not there"
    if found != version:
        raise ValueError(f"{folder} is {found}, but {name}@{version} is needed.")
    return folder


def squash(name: str) -> str:
    """Keep letters and digits alone."""
    return re.sub("[^a-z0-9]", "", name.lower())


def read_own_names(family: str) -> dict[str, str]:
    """Return a family's own names by code point."""
    return dict(entry.split() for entry in OWN_NAMES.get(family, "").split(";") if entry)


def list_names(thing: Thing, cldr_name: str) -> Iterator[str]:
    """Yield the squashed names that a drawing of a thing may have, the likeliest first."""
    called = [squash(cldr_name), squash(unicodedata.name(chr(int(thing.code_point, 16))))]
    for (before, behind), name in product(product(BEFORE, BEHIND), called):
        yield before + name + behind


class DrawnSet:
    """A package that holds SVG as JSON."""

    def __init__(self, folder: Path, family: str) -> None:
        self.icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        chars = folder / "chars.json"
        self.chars: dict[str, str] = json.loads(chars.read_text(encoding="utf-8")) if chars.is_file() else {}
        self.own = read_own_names(family)
        self.by_squashed = {squash(name): name for name in reversed(self.icons["icons"])}  # of names that squash alike the first

    def find(self, thing: Thing, cldr_name: str) -> str | None:
        """Return the name of a thing's drawing."""
        if thing.code_point in self.chars:
            return self.resolve(self.chars[thing.code_point])
        own = self.own.get(thing.code_point)
        names = [own] if own else list_names(thing, cldr_name)
        return next((self.by_squashed[name] for name in names if name in self.by_squashed), None)

    def resolve(self, name: str) -> str:
        """Return the drawing that a name stands for."""
        return name if name in self.icons["icons"] else self.icons["aliases"][name]["parent"]

    def draw(self, name: str) -> Image.Image:
        """Draw an SVG as wide as a picture."""
        icon = self.icons["icons"][name]
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = (icon.get(side, self.icons[side]) for side in ("width", "height"))
        head = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        svg = f'<svg {head} viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
        return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=PICTURE_SIZE))))


def scale_picture(folder: Path, thing: Thing) -> Image.Image | None:
    """Read a thing's picture from Fluent 3D's package and reduce it."""
    paths = [folder / "assets" / f"{thing.code_point}{selector}.webp" for selector in ("", "-fe0f")]
    path = next((path for path in paths if path.is_file()), None)
    return Image.open(path).convert("RGBA").resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS) if path else None


def encode(drawn: Image.Image) -> bytes:
    """Centre a drawing on a transparent square and encode it without loss; what is invisible is 0."""
    square = Image.new("RGBA", (PICTURE_SIZE, PICTURE_SIZE))
    drawn = drawn.convert("RGBA")
    drawn.thumbnail((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
    square.paste(drawn, ((PICTURE_SIZE - drawn.width) // 2, (PICTURE_SIZE - drawn.height) // 2))
    pixels = np.array(square)
    pixels[pixels[..., 3] == 0] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="WEBP", lossless=True, quality=80, method=6, exact=True)
    return buffer.getvalue()


def main() -> None:
    """Write the table."""
    folders = {family: read_package(Path(sys.argv[1]), family) for family in FAMILIES}
    sets = {family: DrawnSet(folder, family) for family, folder in folders.items() if family != FLUENT_3D}
    rows = []
    for thing in read_things(RAW):
        cldr_name = sets[NAMES_BY].chars[thing.code_point]
        for family in FAMILIES:
            if family == FLUENT_3D:
                drawn = scale_picture(folders[family], thing)
            else:
                name = sets[family].find(thing, cldr_name)
                drawn = sets[family].draw(name) if name else None
            if drawn is None:
                raise ValueError(f"{family} has no drawing of {thing.name!r} ({thing.code_point}).")
            rows.append({"code_point": thing.code_point, "family": family, "image": {"bytes": encode(drawn), "path": None}})
    packages = {family: f"{name}@{version}" for family, (name, version) in SOURCES.items()}
    write_table(RAW / PICTURES, rows, PICTURE_TABLE, provenance={"recipe": "embedded/build_artmoji.py", "packages": packages})
    print(f"{len(rows)} pictures")


if __name__ == "__main__":
    main()
