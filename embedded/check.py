"""Measure the shipped models on held-out (concept, style) pairs and write `embedded/quality.json`.

Run as `python -m embedded.check`. Everything is loaded the way the pipeline loads it. Intervals are 95% bootstrap intervals
over pairs. Held-out pairs are those of the first 300 concepts, except for the autoencoder, which is measured on all concepts.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from embedded.stickers import DEFAULT_UNIVERSE, Stickers, describe_pair, load_stickers
from embedded.train_captioner import read_concept, write_captions
from embedded.train_judge import measure_pairs
from embedded.train_vae import measure_psnr
from embedded.training import ROOT, write_json
from pipeline.data.openmoji import STYLES
from pipeline.models.folders import resolve_model
from pipeline.models.judge import load_judge

QUALITY_PATH = ROOT / "embedded" / "quality.json"
NUM_CANDIDATES = 100  # concepts that an image is matched with
NUM_RESAMPLES = 2000
DRAW_STEPS = 20


@dataclass(frozen=True)
class HeldOut:
    """Held-out pairs: rows of (concept index, style index), and their real renders."""

    stickers: Stickers
    rows: Tensor

    @property
    def images(self) -> Tensor:
        """Real renders, uint8 (pair, 3, 64, 64)."""
        return self.stickers.images[self.rows[:, 0], self.rows[:, 1]]

    @property
    def names(self) -> list[str]:
        """Names of all concepts."""
        return [concept.name for concept in self.stickers.concepts]

    @property
    def prompts(self) -> list[str]:
        """The canonical text of each pair."""
        return [describe_pair(self.names[concept], STYLES[style]) for concept, style in self.rows.tolist()]


def load_held_out(limit: int | None) -> HeldOut:
    """Collect the held-out pairs of the first `limit` concepts."""
    stickers = load_stickers(limit)
    return HeldOut(stickers, stickers.list_pairs(held_out=True))


def summarise(values: Tensor) -> dict[str, object]:
    """Mean, 95% bootstrap interval and count."""
    array = values.double().numpy()
    rng = np.random.default_rng(0)
    means = array[rng.integers(0, len(array), (NUM_RESAMPLES, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": round(float(array.mean()), 4), "interval": [round(float(low), 4), round(float(high), 4)], "n": len(array)}


def measure_vae(held: HeldOut) -> dict[str, Tensor]:
    """PSNR in dB of each held-out sticker."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(Path(resolve_model("embedded/diffusion")) / "vae").float().eval()
    return {"vae_psnr": measure_psnr(vae, held.images)}


@torch.no_grad()
def measure_clip(held: HeldOut) -> dict[str, Tensor]:
    """Image-to-text retrieval among 100 concepts of the same style, and zero-shot style."""
    import open_clip

    folder = f"local-dir:{resolve_model('embedded/clip')}"
    model, _, preprocess = open_clip.create_model_and_transforms(folder)
    tokenizer = open_clip.get_tokenizer(folder)
    model.eval()
    pixels = torch.stack([preprocess(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in held.images])
    image_ND = torch.cat([model.encode_image(batch, normalize=True) for batch in pixels.split(64)])

    def encode(texts: list[str]) -> Tensor:
        batches = [tokenizer(texts[start : start + 128]) for start in range(0, len(texts), 128)]
        return torch.cat([model.encode_text(batch, normalize=True) for batch in batches])

    text_SCD = torch.stack([encode([describe_pair(name, style) for name in held.names]) for style in STYLES])
    generator = torch.Generator().manual_seed(0)
    ranks = []
    for image, (concept, style) in zip(image_ND, held.rows.tolist(), strict=True):
        others = torch.randperm(len(held.names), generator=generator)
        candidates = others[others != concept][: NUM_CANDIDATES - 1]
        scores = text_SCD[style] @ image
        ranks.append((scores[candidates] > scores[concept]).sum())
    style_SD = encode([f"{describe_pair('x', style).split(' sticker')[0]} sticker" for style in STYLES])
    styles = (image_ND @ style_SD.T).argmax(dim=1)
    return {"clip_r1_100": torch.stack(ranks) == 0, "clip_style": styles == held.rows[:, 1]}


def measure_captioner(held: HeldOut) -> dict[str, Tensor]:
    """Share of captions with the right style word; with the concept's name or one of its tags."""
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    folder = resolve_model("embedded/captioner")
    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    captions = write_captions(model, Blip2Processor.from_pretrained(folder), held.images)
    concepts = [held.stickers.concepts[concept] for concept in held.rows[:, 0].tolist()]
    styles = [STYLES[style] in caption.split() for caption, style in zip(captions, held.rows[:, 1].tolist(), strict=True)]
    named = [read_concept(text) in (concept.name, *concept.tags) for text, concept in zip(captions, concepts, strict=True)]
    return {"caption_style": torch.tensor(styles), "caption_concept": torch.tensor(named)}


def measure_judge(held: HeldOut) -> dict[str, Tensor]:
    """Accuracy of the judge on real renders."""
    judge = load_judge(resolve_model("embedded/judge"))
    style, concept_ranks = measure_pairs(judge.network, held.images, held.rows)
    return {"judge_style": style, "judge_concept": concept_ranks == 0}


def measure_drawing(held: HeldOut, guidance: float) -> dict[str, Tensor]:
    """Draw every held-out pair once from its canonical text and ask the judge."""
    judge = load_judge(resolve_model("embedded/judge"))
    drawn = draw_pairs(held, guidance)
    save_sheet(held, drawn, ROOT / "embedded" / "contact_sheet.png")
    style, concept_ranks = measure_pairs(judge.network, drawn, held.rows)
    return {"draw_style": style, "draw_concept_top1": concept_ranks == 0, "draw_concept_top5": concept_ranks < 5}


def draw_pairs(held: HeldOut, guidance: float) -> Tensor:
    """Draw through StableDiffusionPipeline itself; uint8 (pair, 3, 64, 64)."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(resolve_model("embedded/diffusion"))
    pipe.set_progress_bar_config(disable=True)
    batches = []
    for start in range(0, len(held.prompts), 16):
        prompts = held.prompts[start : start + 16]
        generators = [torch.Generator().manual_seed(start + index) for index in range(len(prompts))]
        output = pipe(prompts, num_inference_steps=DRAW_STEPS, guidance_scale=guidance, generator=generators, output_type="np")
        batches.append(torch.from_numpy(output.images).permute(0, 3, 1, 2))
    return (torch.cat(batches) * 255).round().to(torch.uint8)


def save_sheet(held: HeldOut, drawn: Tensor, path: Path) -> None:
    """Save up to twelve real renders beside what was drawn for them, two lines a style."""
    lines = []
    for style in range(1, len(STYLES)):
        chosen = torch.nonzero(held.rows[:, 1] == style).flatten()[:12]
        for images in (held.images[chosen], drawn[chosen]):
            padded = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, 12 - len(chosen)), value=255)
            lines.append(torch.cat(list(padded), dim=2))
    Image.fromarray(torch.cat(lines, dim=1).permute(1, 2, 0).numpy()).save(path)


def measure_all(guidance: float) -> Iterator[tuple[str, dict[str, object]]]:
    """Measure one model after the other."""
    held = load_held_out(DEFAULT_UNIVERSE)
    measures = [
        lambda: measure_vae(load_held_out(None)),
        lambda: measure_clip(held),
        lambda: measure_captioner(held),
        lambda: measure_judge(held),
        lambda: measure_drawing(held, guidance),
    ]
    for measure in measures:
        for key, values in measure().items():
            yield key, summarise(values.float())


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guidance", type=float, default=4.0, help="classifier-free guidance scale of the drawings")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quality = {}
    for key, summary in measure_all(arguments.guidance):
        quality[key] = summary
        print(key, summary, flush=True)
    write_json(QUALITY_PATH, quality)


if __name__ == "__main__":
    main()
