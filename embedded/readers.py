"""The readers: two small networks that say whose hand a drawing shows and which thing, for `train_hands` to ask.

Run as `python -m embedded.readers` after `train_unet` (on one core a quarter of an hour for the hand, twenty minutes for the thing; `--only-hand`
and `--only-thing` train one). They are no judges: no figure comes from them. They share neither weights nor shape nor seed with the artists' judge,
and have seen none of the held-out pairs, so that what pleases them still has to convince it.
Group normalisation and smooth activations, for their gradients are what is asked of them.
The hand is read from mean and deviation of every stage, which say how something is drawn and not where; the thing from the last stage alone.
Half of what they see went through the autoencoder. The thing's reader has seen drawings of the drawing model's own, too: it has to know the
things in every hand that the model comes through on its way.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedded.artist_drawings import load_artist_drawings
from embedded.check_looks import reconstruct
from embedded.drawing_model import DrawingModel, UnetConfig, draw_images, encode_latents, load_shipped
from embedded.examples import Examples, load_examples
from embedded.prompts import draw_look_items, draw_texts, load_look_bank, load_text_bank
from embedded.stickers import flip_images, scale_images
from embedded.texts import encode_texts
from embedded.train_clip import augment_images
from embedded.train_judge import soften_images
from embedded.train_vae import load_vae
from embedded.training import DEVICE, DRAWING_DIR, TRAIN_DIR, LoopConfig, parse_arguments, train_module, write_atomically
from pipeline.data.artmoji import FAMILIES
from pipeline.data.openmoji import STYLES

BATCH, SOFT_SHARE, SMOOTHING = 64, 0.4, 0.05
LESSON_SCALES, LESSON_STEPS = (0.0, 1.5, 3.0, 5.0), 8  # guidance to the look of the model's own drawings
LOOP = LoopConfig(steps=2200, peak_rate=2e-3, weight_decay=0.05, ema_decay=0.99, log_steps=100, checkpoint_seconds=300, muon=True, seed=21)


class Stage(nn.Module):
    """Two convolutions with a shortcut; the first one halves the resolution."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 4, stride=2, padding=1)
        self.norm1 = nn.GroupNorm(8, num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, num_out)
        self.shortcut = nn.Conv2d(num_in, num_out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, num_in, H, W) to (B, num_out, H/2, W/2)."""
        hidden = self.norm2(self.conv2(functional.silu(self.norm1(self.conv1(x_BCHW)))))
        return functional.silu(hidden + self.shortcut(functional.avg_pool2d(x_BCHW, 2)))


class Reader(nn.Module):
    """A stem, halving stages that double their width, and one linear head on the last stage's means or, `spread`, on every stage's statistics."""

    def __init__(self, num_classes: int, *, stages: int, spread: bool, width: int = 32) -> None:
        super().__init__()
        self.spread = spread
        widths = [width * 2**i for i in range(stages)]
        self.stem = nn.Conv2d(3, width, 5, padding=2)
        self.stages = nn.ModuleList(Stage(i, o) for i, o in zip([width, *widths], widths, strict=False))
        self.head = nn.Linear(2 * sum(widths) if spread else widths[-1], num_classes)

    def forward(self, pixel_BCHW: Tensor) -> Tensor:
        """Give the logits (B, num_classes) of images in [-1, 1]."""
        hidden, statistics = self.stem(pixel_BCHW), []
        for stage in self.stages:
            hidden = stage(hidden)
            statistics += [hidden.mean(dim=(2, 3)), hidden.std(dim=(2, 3))]
        read = torch.cat(statistics, dim=1) if self.spread else statistics[-2]
        return self.head(functional.dropout(read, 0.2, self.training))


def build_reader(kind: str) -> Reader:
    """Build an untrained reader of the `hand` or the `thing`."""
    if kind == "hand":
        return Reader(len(FAMILIES), stages=3, spread=True)
    return Reader(len(load_artist_drawings().names), stages=4, spread=False)


def name_classes(examples: Examples, kind: str) -> Tensor:
    """Number the families, or the things, of an examples' drawings, as a reader does; a sticker has a negative number."""
    looks, things = examples.looks - len(STYLES), examples.things - (len(examples.names) - len(load_artist_drawings().names))
    return looks if kind == "hand" else things


def name_weights(kind: str) -> Path:
    """Name the file of a trained reader."""
    return TRAIN_DIR / f"reader_{kind}" / "weights.pt"


def load_reader(kind: str) -> Reader:
    """Load a trained reader; FileNotFoundError if it was not trained here."""
    path = name_weights(kind)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `python -m embedded.readers --only-{kind}` trains this reader, which is not shipped.")
    reader = build_reader(kind)
    reader.load_state_dict(torch.load(path, weights_only=True))
    return reader.eval().requires_grad_(False)


@torch.no_grad()
def draw_lessons(examples: Examples, vae: nn.Module) -> tuple[Tensor, Tensor]:
    """Draw every trained drawing's pair with the shipped model (five minutes on one core), or read them: uint8 images, and numbers of examples."""
    weights = (DRAWING_DIR / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    path = TRAIN_DIR / "reader_thing" / f"lessons-{hashlib.sha256(weights).hexdigest()[:12]}.pt"
    if not path.is_file():
        words, bank = load_text_bank(examples, seed=0), load_look_bank(examples, "trained")
        model = DrawingModel(UnetConfig(), vae.config.latent_channels, bank.visual.shape[1]).eval()
        load_shipped(model)
        empty = encode_texts([""])[0].float()
        generator = torch.Generator().manual_seed(31)
        rows = examples.num_stickers + torch.randperm(len(examples) - examples.num_stickers, generator=generator)
        images = []
        for number, batch in enumerate(rows.split(BATCH)):
            states = draw_texts(words.names, examples.things[batch], generator)
            look = model.write_look(bank, *draw_look_items(bank, examples, batch, generator))
            scale = LESSON_SCALES[number % len(LESSON_SCALES)]
            images.append(draw_images(model, vae, states, look, empty, words_scale=3.0, look_scale=scale, steps=LESSON_STEPS, seed=number))
        write_atomically(path, lambda temporary: torch.save({"images": torch.cat(images), "rows": rows}, temporary))
    stored = torch.load(path, weights_only=True)
    return stored["images"], stored["rows"]


def train_reader(kind: str, loop: LoopConfig) -> None:
    """Train, resume or finish one reader."""
    torch.manual_seed(loop.seed)
    vae = load_vae().eval()

    def load_both(*, held_out: bool) -> tuple[Examples, Tensor, Tensor]:
        examples = load_examples(held_out=held_out)
        real = examples.images[examples.num_stickers :]
        with torch.no_grad():
            both = torch.stack([real, reconstruct(vae, encode_latents(vae, real))])
        return examples, both, name_classes(examples, kind)[examples.num_stickers :]

    trained, both, answers = load_both(held_out=False)
    _, held, held_answers = load_both(held_out=True)
    images, classes = both.flatten(0, 1), answers.repeat(2)
    if kind == "thing":
        lessons, rows = draw_lessons(trained, vae)
        images, classes = torch.cat([images, lessons]), torch.cat([classes, name_classes(trained, kind)[rows]])
    images, classes, reader = images.to(DEVICE), classes.to(DEVICE), build_reader(kind)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        rows = torch.randint(len(images), (BATCH,), generator=generator, device=DEVICE)
        augmented = flip_images(augment_images(scale_images(images[rows]), generator), generator)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            logits = reader.train()(soften_images(augmented, SOFT_SHARE, generator)).float()
        right = (logits.argmax(1) == classes[rows]).float().mean()
        return functional.cross_entropy(logits, classes[rows], label_smoothing=SMOOTHING), {"right": right}

    @torch.no_grad()
    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        measured = build_reader(kind).eval()
        measured.load_state_dict(state)
        write_atomically(name_weights(kind), lambda path: torch.save(state, path))
        shares = {}
        for name, pictures in zip(("real", "reconstructed"), held, strict=True):
            said = torch.cat([measured(scale_images(batch)).argmax(1) for batch in pictures.split(BATCH)])
            shares[f"held_out_{name}"] = (said == held_answers).float().mean().item()
        return shares

    train_module(f"reader_{kind}", reader, loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint)


def main() -> None:
    """Train both readers, or one."""
    flags = {f"--only-{kind}": f"not the other one: who reads the {kind}" for kind in ("hand", "thing")}
    arguments = parse_arguments(__doc__, LOOP, flags=flags)
    loop = replace(arguments.loop, seed=LOOP.seed)
    if not arguments.only_thing:
        train_reader("hand", loop)
    if not arguments.only_hand:
        train_reader("thing", loop)


if __name__ == "__main__":
    main()
