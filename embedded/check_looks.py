"""Does the drawing model keep the hands of artists apart? `python -m embedded.check_looks` draws held-out pairs by the look of other pictures.

Every held-out drawing is drawn from its thing's name and the look tokens of five pictures of other things by the same artist, all of
them trained on: the best that a method could know of a user. Beside it: the same without a look, and the judge on the real drawings
and on the autoencoder's reconstructions, which bound what a drawing model can reach. The distance (the metrics' own, by another network than any that
a recipe asks) to the real drawing tells a drawing that pleases the judge by what nobody would draw. OpenMoji's drawings are left out, for the
classic stickers are nearly the same.
Also saves `looks.png`: eight things, each real and drawn by every artist's look, for all artists.
With `--trained` as many pairs that were trained on take the place of the held-out ones: what is missing there was never learnt, what is missing
beyond that does not carry over to new pairs.
"""

import argparse
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from embedded.artist_drawings import load_artist_drawings
from embedded.check_artists import STICKERS_FAMILY
from embedded.drawing_model import DrawingModel, UnetConfig, draw_images, load_shipped
from embedded.examples import UNSEEN_FAMILY, Examples, load_examples
from embedded.prompts import LookBank, load_look_bank
from embedded.stickers import DEFAULT_UNIVERSE
from embedded.summaries import summarise
from embedded.texts import encode_texts
from embedded.train_judge import measure_pairs
from embedded.train_unet import Asked, ask
from embedded.train_vae import load_vae
from embedded.training import ROOT
from pipeline.data.artmoji import FAMILIES
from pipeline.data.openmoji import STYLES
from pipeline.models.folders import resolve_model
from pipeline.models.judge import load_judge
from pipeline.models.perceptual import load_perceptual

SHEET_PATH = ROOT / "embedded" / "looks.png"
STEPS, BATCH, NUM_THINGS = 20, 64, 8


@torch.no_grad()
def draw_rows(model: DrawingModel, vae: torch.nn.Module, asked: Asked, rows: Tensor, *, words_scale: float, look_scale: float | None) -> Tensor:
    """Draw pairs by name and look; without a scale of the look by name alone."""
    empty, parts = encode_texts([""])[0].float(), []
    for batch in rows.split(BATCH):
        states, look = asked.select(batch, model)
        tokens = None if look_scale is None else look
        seed = int(batch[0])
        parts.append(draw_images(model, vae, states, tokens, empty, words_scale=words_scale, look_scale=look_scale or 0.0, steps=STEPS, seed=seed))
    return torch.cat(parts)


@torch.no_grad()
def reconstruct(vae: torch.nn.Module, latents: Tensor) -> Tensor:
    """Decode the latents of real drawings to uint8 images."""
    images = torch.cat([vae.decode(batch / vae.config.scaling_factor).sample for batch in latents.split(BATCH)])
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def grade(images: Tensor, pairs: Tensor, judge: str = "artist_judge", num_things: int | None = None) -> dict[str, Tensor]:
    """Ask a judge: artist (or style) right, thing first, thing among the first five, of the first `num_things`."""
    hand, ranks = measure_pairs(load_judge(resolve_model(f"embedded/{judge}")).network, images, pairs, num_concepts=num_things)
    return {"hand": hand, "thing_top1": ranks == 0, "thing_top5": ranks < 5}


def measure_distances(images: Tensor, real: Tensor) -> Tensor:
    """Give 100 times the perceptual distance of each drawing to the real one."""
    perceptual = load_perceptual("embedded/perceptual")
    features = [perceptual.compute_features(part.permute(0, 2, 3, 1).numpy()) for part in (images, real)]
    return 100 * perceptual.compute_distances(*features)


def save_sheet(model: DrawingModel, vae: torch.nn.Module, bank: LookBank, words_scale: float, look_scale: float) -> None:
    """Save a line of real drawings and a line of drawn ones for every artist."""
    drawings = load_artist_drawings()
    things = torch.linspace(0, len(drawings.names) - 1, NUM_THINGS).long()
    states = encode_texts([drawings.names[thing] for thing in things])[0].float()
    empty, lines = encode_texts([""])[0].float(), []
    for family, name in enumerate(FAMILIES):
        members = bank.members[len(STYLES) + family] if name != UNSEEN_FAMILY else None
        lines.append(drawings.images[things, family])
        if members is None:  # nobody trained on it: a line of its own is left blank
            lines.append(torch.full_like(lines[-1], 255))
            continue
        items = members[torch.randperm(len(members), generator=torch.Generator().manual_seed(family))[:5]].expand(NUM_THINGS, 5)
        look = model.write_look(bank, items, torch.full(items.shape, 0.2))
        lines.append(draw_images(model, vae, states, look, empty, words_scale=words_scale, look_scale=look_scale, steps=STEPS, seed=1))
    sheet = torch.cat([torch.cat(list(line), dim=2) for line in lines], dim=1)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(SHEET_PATH)


@torch.no_grad()
def main() -> None:
    """Print the figures and save the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words-scale", type=float, default=3.0)
    parser.add_argument("--look-scale", type=float, nargs="+", default=[3.0], help="several are compared; the first one is that of the sheet")
    parser.add_argument("--trained", action="store_true", help="pairs that were trained on")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    trained, vae = load_examples(held_out=False), load_vae().eval()
    bank = load_look_bank(trained, "trained")
    held = load_examples(held_out=True)
    asked = ask(vae, choose_trained(trained, len(held)) if arguments.trained else held, trained, bank)
    model = DrawingModel(UnetConfig(), vae.config.latent_channels, bank.visual.shape[1]).eval()
    load_shipped(model)
    examples = asked.examples
    rows = torch.arange(examples.num_stickers, len(examples))
    rows = rows[examples.looks[rows] != len(STYLES) + FAMILIES.index(STICKERS_FAMILY)]
    first_thing = int(trained.things[trained.num_stickers :].min())
    pairs = torch.stack([examples.things[rows] - first_thing, examples.looks[rows] - len(STYLES)], dim=1)
    if not arguments.trained:
        save_sheet(model, vae, bank, arguments.words_scale, arguments.look_scale[0])
        stickers = torch.arange(examples.num_stickers)
        drawn = draw_rows(model, vae, asked, stickers, words_scale=arguments.words_scale, look_scale=None)
        sticker_pairs = torch.stack([examples.things[stickers], examples.looks[stickers]], dim=1)
        show("stickers by their words", grade(drawn, sticker_pairs, "judge", DEFAULT_UNIVERSE))
    drawings = {"real": examples.images[rows], "reconstructed": reconstruct(vae, asked.latents[rows])}
    drawings["by name"] = draw_rows(model, vae, asked, rows, words_scale=arguments.words_scale, look_scale=None)
    for scale in arguments.look_scale:
        drawings[f"by name and look, {scale}"] = draw_rows(model, vae, asked, rows, words_scale=arguments.words_scale, look_scale=scale)
    for name, images in drawings.items():
        show(name, grade(images, pairs) | {"distance": measure_distances(images, examples.images[rows])})


def choose_trained(trained: Examples, count: int) -> Examples:
    """Choose as many drawings as that, at random, of those that were trained on."""
    first = trained.num_stickers
    rows = first + torch.randperm(len(trained) - first, generator=torch.Generator().manual_seed(11))[:count]
    return replace(trained, images=trained.images[rows], looks=trained.looks[rows], things=trained.things[rows], num_stickers=0)


def show(name: str, grades: dict[str, Tensor]) -> None:
    """Print each figure with its interval."""
    for figure, values in grades.items():
        print(name, figure, summarise(values.float()), flush=True)


if __name__ == "__main__":
    main()
