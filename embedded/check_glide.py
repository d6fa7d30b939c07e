"""What the judge says of the small GLIDE's drawings of held-out stickers, beside the U-Net's: `python -m embedded.check_glide` prints it.

Every held-out pair of the default data set is drawn once from its canonical caption, as the method `glide` draws; a sheet is saved. With
`--base` the base model's small pictures are enlarged by bicubic interpolation instead of the upsampler.
"""

import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from embedded.check_drawing import grade_drawn, print_beside_unet
from embedded.check_stickers import HeldOut, time_batches
from embedded.training import ROOT, TRAIN_DIR
from pipeline.baselines.glide.config import GlideConfig
from pipeline.models.glide.model import load_glide
from pipeline.params import load_params

BATCH = 16
SHEET = TRAIN_DIR / "glide_base" / "check.png"
SIDE = 64  # px


def measure_glide(held: HeldOut, *, sheet: Path, base_alone: bool = False) -> dict[str, Tensor]:
    """Draw every held-out pair and ask the judge, which chooses among the concepts at hand."""
    glide, sampling = load_glide("embedded/glide"), load_params(ROOT / "params.yaml", "glide", GlideConfig).sampling

    def draw(batch: list[tuple[int, str]]) -> list[Tensor]:
        generators, prompts = [torch.Generator().manual_seed(seed) for seed, _ in batch], [prompt for _, prompt in batch]
        if not base_alone:
            return list(torch.from_numpy(glide.draw(prompts, generators=generators, sampling=sampling)).permute(0, 3, 1, 2))
        with torch.inference_mode():
            large = functional.interpolate(glide.draw_small(prompts, generators, sampling), size=(SIDE, SIDE), mode="bicubic")
        return list(((large + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))

    images, seconds = time_batches(list(enumerate(held.prompts)), BATCH, draw)
    return grade_drawn(held, torch.stack(images), seconds, sheet=sheet)


if __name__ == "__main__":
    print_beside_unet("GLIDE", partial(measure_glide, base_alone="--base" in sys.argv[1:]), sheet=SHEET)
