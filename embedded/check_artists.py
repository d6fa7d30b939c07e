"""Figures of the shipped models on held-out (thing, family) pairs of the artists' drawings.

The figures of models that also learn from stickers leave OpenMoji's drawings out: the classic stickers are the same drawings, larger by a tenth.
"""

import torch
from torch import Tensor

from embedded.artist_drawings import ArtistDrawings, describe_all, load_artist_drawings
from embedded.clip_questions import list_looks
from embedded.shipped import caption, encode_images, measure_reconstructions
from embedded.texts import list_drawn_name_texts, list_look_texts
from embedded.train_captioner import grade_drawing
from embedded.train_judge import measure_pairs
from embedded.visible_words import Words, compare_words
from pipeline.data.artmoji import FAMILIES
from pipeline.models.folders import resolve_model
from pipeline.models.judge import load_judge

STICKERS_FAMILY = "openmoji"


def list_held_out(drawings: ArtistDrawings, *, seen_as_stickers: bool) -> Tensor:
    """List the (thing, family) rows that are held out, with or without the family whose drawings the stickers are."""
    rows = drawings.list_pairs(held_out=True)
    return rows if seen_as_stickers else rows[rows[:, 1] != FAMILIES.index(STICKERS_FAMILY)]


def measure_artists() -> dict[str, Tensor]:
    """Measure autoencoder, CLIP, captioner and judge; a value each picture."""
    drawings = load_artist_drawings()
    words = describe_all(drawings)
    rows = list_held_out(drawings, seen_as_stickers=False)
    images = drawings.images[rows[:, 0], rows[:, 1]]
    seen = [words[thing][family] for thing, family in rows.tolist()]
    judged = list_held_out(drawings, seen_as_stickers=True)
    return {
        "vae_psnr_artists": measure_reconstructions(images),
        **measure_clip(images, rows[:, 0], drawings.names, seen, list_looks(words)),
        **measure_captioner(images, [drawings.names[thing] for thing in rows[:, 0].tolist()], seen),
        **measure_judge(drawings.images[judged[:, 0], judged[:, 1]], judged),
    }


@torch.no_grad()
def measure_clip(images: Tensor, things: Tensor, names: tuple[str, ...], seen: list[Words], looks: list[Words]) -> dict[str, Tensor]:
    """Image-to-text retrieval among all things' names; which words of the nearest of all looks are right."""
    image_ND, encode = encode_images(images)
    name_texts, look_texts = encode([list_drawn_name_texts(name)[1] for name in names]), encode([list_look_texts(look)[1] for look in looks])
    nearest = (image_ND @ look_texts.T).argmax(dim=1).tolist()
    words = collect([compare_words(looks[said], truth) for said, truth in zip(nearest, seen, strict=True)], "clip")
    return {"clip_thing_artists": (image_ND @ name_texts.T).argmax(dim=1) == things, **words}


def measure_captioner(images: Tensor, names: list[str], seen: list[Words]) -> dict[str, Tensor]:
    """Which captions name the thing exactly, and say colour, outline and shading right."""
    truths = zip(caption(images), names, seen, strict=True)
    return collect([grade_drawing(text, name, words) for text, name, words in truths], "caption")


def measure_judge(images: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """Accuracy of the artists' judge, which learns from no sticker: the family is its style, the thing its concept."""
    judge = load_judge(resolve_model("embedded/artist_judge"))
    family, ranks = measure_pairs(judge.network, images, rows)
    return {"judge_family_artists": family, "judge_thing_artists": ranks == 0, "judge_thing_top5_artists": ranks < 5}


def collect(grades: list[dict[str, bool]], model: str) -> dict[str, Tensor]:
    """Turn a row of grades a picture into a figure a grade."""
    return {f"{model}_{key}_artists": torch.tensor([row[key] for row in grades]) for key in grades[0]}
