"""What the judge says of the small GLIDE's drawings of held-out stickers, beside the U-Net's: `python -m embedded.check_glide` prints it.

Every held-out pair of the default data set is drawn once from its canonical caption, as the method `glide` draws; a sheet is saved.
"""

from pathlib import Path

import torch
from torch import Tensor

from embedded.check_drawing import grade_drawn, print_beside_unet
from embedded.check_stickers import HeldOut, time_batches
from embedded.training import ROOT, TRAIN_DIR
from pipeline.baselines.glide.config import GlideConfig
from pipeline.models.glide.model import load_glide
from pipeline.params import load_params

BATCH = 16
SHEET = TRAIN_DIR / "glide_base" / "check.png"


def measure_glide(held: HeldOut, *, sheet: Path) -> dict[str, Tensor]:
    """Draw every held-out pair and ask the judge, which chooses among the concepts at hand."""
    glide, sampling = load_glide("embedded/glide"), load_params(ROOT / "params.yaml", "glide", GlideConfig).sampling

    def draw(batch: list[tuple[int, str]]) -> list[Tensor]:
        generators = [torch.Generator().manual_seed(seed) for seed, _ in batch]
        return list(torch.from_numpy(glide.draw([prompt for _, prompt in batch], generators=generators, sampling=sampling)).permute(0, 3, 1, 2))

    images, seconds = time_batches(list(enumerate(held.prompts)), BATCH, draw)
    return grade_drawn(held, torch.stack(images), seconds, sheet=sheet)


if __name__ == "__main__":
    print_beside_unet("GLIDE", measure_glide, sheet=SHEET)
