"""What the judge says of the small LaVIT's drawings of held-out stickers, beside the U-Net's: `python -m embedded.check_lavit` prints it.

Every held-out pair of the default data set is asked for once as the method `lavit` asks: by five pictures of other things in its style, the thing's
name, and a picture of it in another style, all of pairs that may be learnt from; a sheet is saved.
"""

import random
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from embedded.check_drawing import grade_drawn, print_beside_unet
from embedded.check_stickers import HeldOut, time_batches
from embedded.stickers import Stickers
from embedded.training import ROOT, TRAIN_DIR
from pipeline.baselines.lavit.config import LavitConfig
from pipeline.models.lavit.model import Lavit, load_lavit
from pipeline.params import load_params

BATCH = 16
SHEET = TRAIN_DIR / "lavit_language" / "check.png"


def choose_pictures(known: list[list[int]], thing: int, style: int, count: int, rng: random.Random) -> list[list[int]]:
    """Choose the pairs that are shown among those that may be learnt from, the reference last."""
    liked = rng.sample([pair for pair in known if pair[1] == style and pair[0] != thing], count)
    return [*liked, rng.choice([pair for pair in known if pair[0] == thing])]


def write_codes(lavit: Lavit, config: LavitConfig, stickers: Stickers, known: list[list[int]], pair: list[int]) -> Tensor:
    """Ask for one pair; the first code where none is written, as a picture that is wrong."""
    thing, style = pair
    shown = choose_pictures(known, thing, style, config.history_items, random.Random(f"{thing} {style}"))
    images = [Image.fromarray(stickers.images[row, look].permute(1, 2, 0).numpy()) for row, look in shown]
    generators = [torch.Generator().manual_seed(place) for place in range(len(shown) + 1)]
    *liked, reference = lavit.read_images(images, generators[1:])
    parts = lavit.fit_prompt(stickers.names[thing], reference, liked, config.sampling)
    codes = lavit.write_codes(parts or [], generators[0], config.sampling)
    return codes if len(codes) else torch.zeros(1, dtype=torch.long)


def measure_lavit(held: HeldOut, *, sheet: Path) -> dict[str, Tensor]:
    """Draw every held-out pair and ask the judge, which chooses among the concepts at hand."""
    config = load_params(ROOT / "params.yaml", "lavit", LavitConfig)
    lavit = load_lavit("embedded/lavit", pixels=config.sampling.pixels)

    known = held.stickers.list_pairs(held_out=False).tolist()

    def draw(batch: list[tuple[int, list[int]]]) -> list[Tensor]:
        codes = [write_codes(lavit, config, held.stickers, known, pair) for _, pair in batch]
        generators = [torch.Generator().manual_seed(seed) for seed, _ in batch]
        return list(torch.from_numpy(lavit.draw_codes(codes, generators, config.sampling)).permute(0, 3, 1, 2))

    images, seconds = time_batches(list(enumerate(held.rows.tolist())), BATCH, draw)
    return grade_drawn(held, torch.stack(images), seconds, sheet=sheet)


if __name__ == "__main__":
    print_beside_unet("LaVIT", measure_lavit, sheet=SHEET)
