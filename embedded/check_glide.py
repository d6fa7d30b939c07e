"""What the judge says of the small GLIDE's drawings of held-out stickers, beside the U-Net's: `python -m embedded.check_glide` prints it.

Every held-out pair of the default data set is drawn once from its canonical caption, as the method `glide` draws; a sheet is saved.
"""

from pathlib import Path

import torch
from torch import Tensor

from embedded.check_drawing import measure_drawing, save_sheet
from embedded.check_stickers import HeldOut, load_held_out, time_batches
from embedded.stickers import DEFAULT_UNIVERSE
from embedded.train_judge import measure_pairs
from embedded.training import ROOT, TRAIN_DIR
from pipeline.baselines.glide.config import GlideConfig
from pipeline.models.folders import resolve_model
from pipeline.models.glide.model import load_glide
from pipeline.models.judge import load_judge
from pipeline.params import load_params

BATCH = 16
SHEET = TRAIN_DIR / "glide_base" / "check.png"
GUIDANCE = 4.0  # of the U-Net, generation.guidance_scale


def measure_glide(held: HeldOut, *, sheet: Path) -> dict[str, Tensor]:
    """Draw every held-out pair and ask the judge, which chooses among the concepts at hand."""
    glide, sampling = load_glide("embedded/glide"), load_params(ROOT / "params.yaml", "glide", GlideConfig).sampling

    def draw(batch: list[tuple[int, str]]) -> list[Tensor]:
        generators = [torch.Generator().manual_seed(seed) for seed, _ in batch]
        return list(torch.from_numpy(glide.draw([prompt for _, prompt in batch], generators=generators, sampling=sampling)).permute(0, 3, 1, 2))

    images, seconds = time_batches(list(enumerate(held.prompts)), BATCH, draw)
    drawn = torch.stack(images)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    save_sheet(held, drawn, sheet)
    style, concept_ranks = measure_pairs(load_judge(resolve_model("embedded/judge")).network, drawn, held.rows, num_concepts=len(held.names))
    return {"draw_style": style, "draw_concept_top1": concept_ranks == 0, "draw_concept_top5": concept_ranks < 5, "draw_seconds": seconds}


def main() -> None:
    """Print both models' figures."""
    held = load_held_out(DEFAULT_UNIVERSE)
    for name, figures in (("GLIDE", measure_glide(held, sheet=SHEET)), ("U-Net", measure_drawing(held, GUIDANCE))):
        print(f"{name}: " + " ".join(f"{key}={value.float().mean().item():.3f}" for key, value in figures.items()))
    print(f"Real stickers above GLIDE's: {SHEET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
