"""Measure the shipped models on held-out (concept, style) pairs and write `embedded/quality.json`.

Run as `python -m embedded.check` (minutes on two cores). Everything is loaded the way the pipeline loads it. A key by itself is
about the held-out pairs of the first 300 concepts, which are the default data set's; a key that ends in `_all` about those of
all 1,343. Intervals are 95% bootstrap intervals over pairs; of the seconds, over batches.

The guidance of the drawings is not chosen on the pairs that are reported: `--compare-guidance` measures several on held-out
pairs of other concepts.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from embedded.card import write_card
from embedded.stickers import DEFAULT_UNIVERSE, Stickers, describe_pair, load_stickers
from embedded.train_captioner import read_concept, write_captions
from embedded.train_judge import measure_pairs
from embedded.train_vae import measure_psnr
from embedded.training import ROOT, WEIGHTS_DIR
from pipeline.data.openmoji import STYLES, Concept
from pipeline.json_files import write_json
from pipeline.keywords.extract import KeywordsConfig, ask_model
from pipeline.keywords.parse import parse_keywords
from pipeline.keywords.prompts import build_keyword_prompt
from pipeline.models.folders import resolve_model
from pipeline.models.judge import load_judge
from pipeline.models.llm import prepare_language_model
from pipeline.params import load_params

QUALITY_PATH = ROOT / "embedded" / "quality.json"
NUM_CANDIDATES = 100  # concepts that an image is matched with
NUM_RESAMPLES = 2000
DRAW_STEPS, DRAW_BATCH = 20, 16
NUM_COMPARED = 200  # drawings per guidance scale
SHEET_PATH = ROOT / "embedded" / "contact_sheet.png"


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
    def concepts(self) -> list[Concept]:
        """The concept of each pair."""
        return [self.stickers.concepts[concept] for concept in self.rows[:, 0].tolist()]

    @property
    def styles(self) -> list[str]:
        """The style of each pair."""
        return [STYLES[style] for style in self.rows[:, 1].tolist()]

    @property
    def names(self) -> list[str]:
        """Names of all concepts."""
        return [concept.name for concept in self.stickers.concepts]

    @property
    def prompts(self) -> list[str]:
        """The canonical text of each pair."""
        return [describe_pair(concept.name, style) for concept, style in zip(self.concepts, self.styles, strict=True)]


def load_held_out(limit: int | None, *, start: int = 0) -> HeldOut:
    """Collect the held-out pairs of the concepts from `start` up to `limit`."""
    stickers = load_stickers(limit)
    rows = stickers.list_pairs(held_out=True)
    return HeldOut(stickers, rows[rows[:, 0] >= start])


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
    pairs = list(zip(captions, held.concepts, held.styles, strict=True))
    styles = [style in caption.split() for caption, _, style in pairs]
    named = [read_concept(caption) in (concept.name, *concept.tags) for caption, concept, _ in pairs]
    return {"caption_style": torch.tensor(styles), "caption_concept": torch.tensor(named)}


def measure_keywords(held: HeldOut) -> dict[str, Tensor]:
    """Ask the language model about each pair's true caption, as the keywords stage does; the head word is a name's last."""
    config = load_params(ROOT / "params.yaml", "keywords", KeywordsConfig)
    model = prepare_language_model(ROOT / "params.yaml", torch.device("cpu")).load()
    prompts = [
        build_keyword_prompt(caption, concept.name, prompt_style=config.prompt_style, num_keywords=config.num_keywords)
        for caption, concept in zip(held.prompts, held.concepts, strict=True)
    ]
    replies, seconds = time_batches(prompts, config.batch_size, lambda batch: ask_model(model, batch, config))
    words = [set(" ".join(parse_keywords(reply, max_keywords=config.num_keywords)).split()) for reply in replies]
    styles = [style in found for style, found in zip(held.styles, words, strict=True)]
    heads = [concept.name.split()[-1] in found for concept, found in zip(held.concepts, words, strict=True)]
    return {"keyword_style": torch.tensor(styles), "keyword_concept": torch.tensor(heads), "keyword_seconds": seconds}


def time_batches(rows: list, batch_size: int, work: Callable[[list], list]) -> tuple[list, Tensor]:
    """Do the work in batches; give the results, and the seconds per row of each full batch but the first, which warms up."""
    work(rows[:batch_size])
    results, seconds = [], []
    for start in range(0, len(rows), batch_size):
        batch, began = rows[start : start + batch_size], time.perf_counter()
        results += work(batch)
        if len(batch) == batch_size:
            seconds.append((time.perf_counter() - began) / batch_size)
    return results, torch.tensor(seconds)


def measure_judge(held: HeldOut) -> dict[str, Tensor]:
    """Accuracy of the judge on real renders."""
    judge = load_judge(resolve_model("embedded/judge"))
    style, concept_ranks = measure_pairs(judge.network, held.images, held.rows)
    return {"judge_style": style, "judge_concept": concept_ranks == 0}


def measure_drawing(held: HeldOut, guidance: float, *, sheet: Path | None = None) -> dict[str, Tensor]:
    """Draw every held-out pair once from its canonical text and ask the judge, which chooses among the concepts at hand."""
    judge = load_judge(resolve_model("embedded/judge"))
    drawn, seconds = draw_pairs(held, guidance)
    if sheet is not None:
        save_sheet(held, drawn, sheet)
    style, concept_ranks = measure_pairs(judge.network, drawn, held.rows, num_concepts=len(held.names))
    top = {"draw_concept_top1": concept_ranks == 0, "draw_concept_top5": concept_ranks < 5}
    return {"draw_style": style, **top, "draw_seconds": seconds}


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


def measure_weights() -> dict[str, object]:
    """Size of all shipped weights in MB of 10^6 bytes; n is the number of files."""
    sizes = [path.stat().st_size for path in WEIGHTS_DIR.rglob("*.safetensors")]
    total = round(sum(sizes) / 1e6, 2)
    return {"value": total, "interval": [total, total], "n": len(sizes)}


def save_sheet(held: HeldOut, drawn: Tensor, path: Path) -> None:
    """Save up to twelve real renders beside what was drawn for them, two lines per style."""
    lines = []
    for style in range(1, len(STYLES)):
        chosen = torch.nonzero(held.rows[:, 1] == style).flatten()[:12]
        for images in (held.images[chosen], drawn[chosen]):
            padded = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, 12 - len(chosen)), value=255)
            lines.append(torch.cat(list(padded), dim=2))
    Image.fromarray(torch.cat(lines, dim=1).permute(1, 2, 0).numpy()).save(path)


def measure_all(guidance: float) -> Iterator[tuple[str, dict[str, object]]]:
    """Measure one model after the other."""
    held, universe = load_held_out(DEFAULT_UNIVERSE), load_held_out(None)
    measures = [
        lambda: measure_vae(universe),
        lambda: measure_clip(held),
        lambda: mark_all(measure_clip(universe)),
        lambda: measure_captioner(held),
        lambda: mark_all(measure_captioner(universe)),
        lambda: measure_keywords(universe),
        lambda: measure_judge(held),
        lambda: mark_all(measure_judge(universe)),
        lambda: measure_drawing(held, guidance, sheet=SHEET_PATH),
        lambda: mark_all(measure_drawing(universe, guidance)),
    ]
    for measure in measures:
        for key, values in measure().items():
            yield key, summarise(values.float())
    yield "weights_mb", measure_weights()


def mark_all(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mark figures as those of all concepts; seconds are the same for any."""
    return {f"{key}_all": value for key, value in values.items() if not key.endswith("_seconds")}


def compare_guidance(scales: list[float]) -> None:
    """Print what the judge says of drawings under several guidance scales, on held-out pairs that no reported figure uses."""
    held = load_held_out(None, start=DEFAULT_UNIVERSE)
    few = HeldOut(held.stickers, held.rows[torch.randperm(len(held.rows), generator=torch.Generator().manual_seed(0))[:NUM_COMPARED]])
    for scale in scales:
        means = {key: round(values.float().mean().item(), 4) for key, values in measure_drawing(few, scale).items()}
        print(f"guidance {scale}: {means}", flush=True)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guidance", type=float, default=4.0, help="classifier-free guidance scale of the drawings")
    parser.add_argument("--compare-guidance", type=float, nargs="+", help="only compare these scales")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.compare_guidance:
        compare_guidance(arguments.compare_guidance)
        return
    quality = {}
    for key, summary in measure_all(arguments.guidance):
        quality[key] = summary
        print(key, summary, flush=True)
    write_json(QUALITY_PATH, quality)
    write_card(quality)


if __name__ == "__main__":
    main()
