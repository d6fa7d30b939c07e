"""Teach the drawing model the hands of artists: ask its drawings whose hand they show and which thing, and let it please those that answer.

Run as `python -m embedded.train_hands` after `train_unet` and `readers`; it goes on from the shipped weights. The error of a drawing asks little
for its hand: most of it is spent on where things are, and a model can keep it low with a hand of its own. So every step also draws some trained
pairs as the pipeline draws, by a name and the look of other pictures with guidance to both, up to a step that is drawn at random, and takes
that step's estimate of the finished picture. `embedded.readers` say of it whose hand it shows and which thing it is; their cross-entropies go
back through that one estimate alone, as in ReFL (Xu et al. 2023, ImageReward). Without the thing's reader things are lost within minutes
(embedded/README.md). The recipe's own loss is kept beside it, for stickers, for words that come without a look, and for what no reader asks.
"""

from dataclasses import dataclass, field, replace

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.nn import functional

from embedded.check_looks import draw_rows
from embedded.drawing_model import DrawingModel, UnetConfig, build_sampler, load_shipped
from embedded.prompts import draw_look_items, draw_texts
from embedded.readers import Reader, load_reader, name_classes
from embedded.stickers import scale_images
from embedded.texts import encode_texts
from embedded.train_unet import Asked, Lessons, load_lessons, train_drawing_model
from embedded.train_vae import load_vae
from embedded.training import DEVICE, LoopConfig, parse_arguments

NUM_MEASURED = 192  # held-out drawings that every checkpoint is asked for


@dataclass(frozen=True)
class HandsRecipe:
    """How drawings are made to be read."""

    batch_size: int = 24
    steps: int = 8  # of the sampler, which stops before one of them but the first
    words_scale: float = 3.0
    look_scales: tuple[float, float] = (2.0, 6.0)  # one is drawn for every batch
    hand_weight: float = 0.2  # of the cross-entropy, beside the drawing model's own loss
    thing_weight: float = 0.2
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1500, peak_rate=2e-4, warmup_steps=20, ema_decay=0.99, checkpoint_seconds=600))


@dataclass(frozen=True)
class Exam:
    """What the drawings are read by."""

    recipe: HandsRecipe
    readers: dict[str, Reader]
    classes: dict[str, Tensor]  # of every example
    empty: Tensor  # token states (32, 384) of no words

    def compute_loss(self, model: DrawingModel, vae: AutoencoderKL, lessons: Lessons, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw trained pairs to a random step, and give the weighted cross-entropies of what the readers say of its estimate."""
        recipe = self.recipe
        chosen = lessons.choose(1, recipe.batch_size, generator)
        states = draw_texts(lessons.words.names, lessons.examples.things[chosen], generator)
        look = model.write_look(lessons.looks, *draw_look_items(lessons.looks, lessons.examples, chosen, generator))
        images = self.draw_estimate(model, vae, lessons, states, look, generator)
        loss, figures = torch.zeros((), device=images.device), {}
        for kind, weight in (("hand", recipe.hand_weight), ("thing", recipe.thing_weight)):
            with torch.autocast(images.device.type, torch.bfloat16):
                logits = self.readers[kind](images).float()
            answers = self.classes[kind][chosen]
            loss = loss + weight * functional.cross_entropy(logits, answers)
            figures[f"{kind}_right"] = (logits.detach().argmax(1) == answers).float().mean()
        return loss, figures

    def draw_estimate(
        self, model: DrawingModel, vae: AutoencoderKL, lessons: Lessons, states: Tensor, look: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Give images (B, 3, 64, 64) near [-1, 1] whose gradient reaches the model through the last step alone."""
        no_look = model.look.no_look_MD.expand_as(look)
        parts = ((self.empty.expand_as(states), no_look), (states, no_look), (states, look))
        condition = torch.cat([torch.cat(part, dim=1) for part in parts])
        low, high = self.recipe.look_scales
        look_scale = low + (high - low) * torch.rand((), generator=generator, device=DEVICE).item()

        def predict(latents: Tensor, step: Tensor) -> Tensor:
            with torch.autocast(latents.device.type, torch.bfloat16):
                free, led, both = model.unet(torch.cat([latents] * 3), step, condition).sample.float().chunk(3)
            return free + self.recipe.words_scale * (led - free) + look_scale * (both - led)

        sampler = build_sampler()
        sampler.set_timesteps(self.recipe.steps)
        latents = torch.randn((len(states), *lessons.latents.shape[1:]), generator=generator, device=DEVICE)
        stop = int(torch.randint(1, self.recipe.steps, (), generator=generator, device=DEVICE))
        with torch.no_grad():
            for step in sampler.timesteps[:stop]:
                latents = sampler.step(predict(latents, step), step, latents).prev_sample
        step = sampler.timesteps[stop]
        kept = lessons.noiser.alphas_cumprod[step]
        estimate = kept.sqrt() * latents - (1 - kept).sqrt() * predict(latents, step)
        with torch.autocast(estimate.device.type, torch.bfloat16):
            images = vae.decode(estimate / vae.config.scaling_factor).sample
        return images.float().clamp(-1.2, 1.2)  # what leaves the range is cut off when it is drawn; a little beyond still has a gradient


@torch.no_grad()
def measure_read(model: DrawingModel, vae: AutoencoderKL, held: Asked, exam: Exam) -> dict[str, float]:
    """Draw held-out pairs by name and look, and say how often the readers answer right; the judge, which measures what comes out, is not asked."""
    rows = held.examples.num_stickers + torch.arange(NUM_MEASURED)
    scale = sum(exam.recipe.look_scales) / 2
    images = scale_images(draw_rows(model, vae, held, rows, words_scale=exam.recipe.words_scale, look_scale=scale)).to(DEVICE)
    said = {kind: reader(images).argmax(1).cpu() for kind, reader in exam.readers.items()}
    return {f"held_out_{kind}": (said[kind] == name_classes(held.examples, kind)[rows]).float().mean().item() for kind in said}


def main() -> None:
    """Train, resume or finish."""
    base, recipe = UnetConfig(), HandsRecipe()
    arguments = parse_arguments(__doc__, recipe.loop)
    torch.manual_seed(0)
    config = replace(base, loop=arguments.loop)
    recipe = replace(recipe, batch_size=arguments.batch_size or recipe.batch_size)
    vae = load_vae().eval().requires_grad_(False)
    lessons = load_lessons(vae, config)
    model = DrawingModel(config, vae.config.latent_channels, lessons.looks.visual.shape[1])
    model.unet.set_attn_processor(AttnProcessor())
    load_shipped(model)
    kinds = ("hand", "thing")
    classes = {kind: name_classes(lessons.examples, kind) for kind in kinds}
    exam = Exam(recipe, {kind: load_reader(kind).to(DEVICE) for kind in kinds}, classes, encode_texts([""])[0].float().to(DEVICE))
    drawer = load_vae().eval().requires_grad_(False).to(DEVICE)  # checkpoints are measured on the CPU, with the other one

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        own, figures = lessons.compute_loss(model, config, generator)
        asked, answers = exam.compute_loss(model, drawer, lessons, generator)
        return own + asked, figures | answers

    train_drawing_model(
        "hands", model, vae, config, compute_loss, goes_on=True, measure=lambda measured, held: measure_read(measured, vae, held, exam)
    )


if __name__ == "__main__":
    main()
