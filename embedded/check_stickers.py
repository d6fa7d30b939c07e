"""Figures of the shipped models on held-out (concept, style) pairs of the stickers, drawings of the U-Net apart."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from embedded.shipped import caption, encode_images, measure_reconstructions
from embedded.stickers import Stickers, describe_pair, load_stickers
from embedded.train_captioner import read_concept
from embedded.train_judge import measure_pairs
from embedded.training import ROOT
from pipeline.data.openmoji import STYLES, Concept
from pipeline.keywords.extract import KeywordsConfig, ask_model
from pipeline.keywords.parse import parse_keywords
from pipeline.keywords.prompts import build_keyword_prompt
from pipeline.models.folders import resolve_model
from pipeline.models.judge import load_judge
from pipeline.models.llm import prepare_language_model
from pipeline.params import load_params

NUM_CANDIDATES = 100  # concepts that an image is matched with


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


def measure_vae(held: HeldOut) -> dict[str, Tensor]:
    """PSNR in dB of each held-out sticker."""
    return {"vae_psnr": measure_reconstructions(held.images)}


@torch.no_grad()
def measure_clip(held: HeldOut) -> dict[str, Tensor]:
    """Image-to-text retrieval among 100 concepts of the same style, and zero-shot style."""
    image_ND, encode = encode_images(held.images)
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
    pairs = list(zip(caption(held.images), held.concepts, held.styles, strict=True))
    styles = [style in text.split() for text, _, style in pairs]
    named = [read_concept(text) in (concept.name, *concept.tags) for text, concept, _ in pairs]
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
