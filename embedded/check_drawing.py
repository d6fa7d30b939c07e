"""Figures of what the shipped U-Net draws for held-out (concept, style) pairs of the stickers, graded by the judge."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from embedded.check_stickers import HeldOut, load_held_out, time_batches
from embedded.stickers import DEFAULT_UNIVERSE
from embedded.train_judge import measure_pairs
from embedded.training import ROOT
from pipeline.data.openmoji import STYLES
from pipeline.models.folders import resolve_model
from pipeline.models.judge import load_judge

DRAW_STEPS, DRAW_BATCH = 20, 16
GUIDANCE = 4.0  # beside another model: generation.guidance_scale
NUM_COMPARED = 200  # drawings per guidance scale


def measure_drawing(held: HeldOut, guidance: float, *, sheet: Path | None = None) -> dict[str, Tensor]:
    """Draw every held-out pair once from its canonical text and ask the judge, which chooses among the concepts at hand."""
    return grade_drawn(held, *draw_pairs(held, guidance), sheet=sheet)


def grade_drawn(held: HeldOut, drawn: Tensor, seconds: Tensor, *, sheet: Path | None = None) -> dict[str, Tensor]:
    """Ask the judge what a model drew for the held-out pairs, uint8 (pair, 3, 64, 64), and save them beside the real ones."""
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        save_sheet(held, drawn, sheet)
    judge = load_judge(resolve_model("embedded/judge"))
    style, concept_ranks = measure_pairs(judge.network, drawn, held.rows, num_concepts=len(held.names))
    top = {"draw_concept_top1": concept_ranks == 0, "draw_concept_top5": concept_ranks < 5}
    return {"draw_style": style, **top, "draw_seconds": seconds}


def print_beside_unet(name: str, measure: Callable[..., dict[str, Tensor]], *, sheet: Path) -> None:
    """Print another model's figures and, on the same pairs, those of the shipped U-Net."""
    held = load_held_out(DEFAULT_UNIVERSE)
    for model, figures in ((name, measure(held, sheet=sheet)), ("U-Net", measure_drawing(held, GUIDANCE))):
        print(f"{model}: " + " ".join(f"{key}={value.float().mean().item():.3f}" for key, value in figures.items()))
    print(f"Real stickers above {name}'s: {sheet.relative_to(ROOT)}")


def draw_pairs(held: HeldOut, guidance: float) -> tuple[Tensor, Tensor]:
    """Draw through StableDiffusionPipeline itself; uint8 (pair, 3, 64, 64), and the seconds per image of each batch."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(resolve_model("embedded/diffusion"))
    pipe.set_progress_bar_config(disable=True)

    def draw(batch: list[tuple[int, str]]) -> list[Tensor]:
        generators = [torch.Generator().manual_seed(seed) for seed, _ in batch]
        prompts = [prompt for _, prompt in batch]
        output = pipe(prompts, num_inference_steps=DRAW_STEPS, guidance_scale=guidance, generator=generators, output_type="np")
        return list(torch.from_numpy(output.images).permute(0, 3, 1, 2))

    images, seconds = time_batches(list(enumerate(held.prompts)), DRAW_BATCH, draw)
    return (torch.stack(images) * 255).round().to(torch.uint8), seconds


def save_sheet(held: HeldOut, drawn: Tensor, path: Path) -> None:
    """Save up to twelve real renders beside what was drawn for them, two lines per style."""
    lines = []
    for style in range(1, len(STYLES)):
        chosen = torch.nonzero(held.rows[:, 1] == style).flatten()[:12]
        for images in (held.images[chosen], drawn[chosen]):
            padded = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, 12 - len(chosen)), value=255)
            lines.append(torch.cat(list(padded), dim=2))
    Image.fromarray(torch.cat(lines, dim=1).permute(1, 2, 0).numpy()).save(path)


def compare_guidance(scales: list[float]) -> None:
    """Print what the judge says of drawings under several guidance scales, on held-out pairs that no reported figure uses."""
    held = load_held_out(None, start=DEFAULT_UNIVERSE)
    few = HeldOut(held.stickers, held.rows[torch.randperm(len(held.rows), generator=torch.Generator().manual_seed(0))[:NUM_COMPARED]])
    for scale in scales:
        means = {key: round(values.float().mean().item(), 4) for key, values in measure_drawing(few, scale).items()}
        print(f"guidance {scale}: {means}", flush=True)
