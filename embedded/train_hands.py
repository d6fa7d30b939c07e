"""Teach the drawing model the hands of artists: ask its drawings whose hand they show and which thing, and let it please those that answer.

Run as `python -m embedded.train_hands` after `train_unet` and `readers`; it goes on from the shipped weights. The error of a drawing asks little
for its hand: most of it is spent on where things are, and a model can keep it low with a hand of its own. So every step also draws some trained
pairs as the pipeline draws, by a name and the look of other pictures with guidance to both, up to a step that is drawn at random, and takes
that step's estimate of the finished picture. `embedded.readers` say of it whose hand it shows and which thing it is; their cross-entropies go
back through that one estimate alone, as in ReFL (Xu et al. 2023, ImageReward). Without the thing's reader things are lost within minutes; without
`embedded.critic`, who says how real it looks, the readers come to be pleased by mottled surfaces. The recipe's own loss is
kept beside them, for stickers, for words that come without a look, and for what nobody asks.
"""

from dataclasses import dataclass, field, replace

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional

from embedded.check_looks import draw_rows, reconstruct
from embedded.critic import Critic, load_eyes, see
from embedded.drawing_model import DrawingModel, UnetConfig, build_sampler, load_shipped
from embedded.prompts import draw_look_items, draw_texts
from embedded.readers import Reader, load_reader, name_classes
from embedded.stickers import IMAGE_SIZE, scale_images
from embedded.texts import encode_texts
from embedded.train_unet import Asked, Lessons, load_lessons, train_drawing_model
from embedded.train_vae import load_vae
from embedded.training import DEVICE, LoopConfig, parse_arguments
from pipeline.models.backbone import Backbone

NUM_MEASURED = 192  # held-out drawings that every checkpoint is asked for
CRITIC_SHARE = 0.1  # of the critic's own loss: AdamW makes nothing of it, and so the critic's gradient leaves the model's unclipped


@dataclass(frozen=True)
class HandsRecipe:
    """How drawings are made, and how much each voice counts."""

    batch_size: int = 24
    steps: int = 8  # of the sampler, which stops before one of them but the first
    words_scale: float = 3.0
    look_scales: tuple[float, float] = (2.0, 5.0)  # one is drawn for every batch
    own_weight: float = 3.0  # of the drawing model's own loss
    hand_weight: float = 0.2  # of the readers' cross-entropies
    thing_weight: float = 0.2
    real_weight: float = 0.2  # of the critic's mean score
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1600, peak_rate=2e-4, warmup_steps=20, ema_decay=0.99, checkpoint_seconds=600))


class Studio(nn.Module):
    """What is trained: who draws, and who finds drawings unreal."""

    def __init__(self, drawing: DrawingModel, critic: Critic) -> None:
        super().__init__()
        self.drawing, self.critic = drawing, critic


@dataclass(frozen=True)
class Exam:
    """Pairs to draw, and those that look at the drawings."""

    recipe: HandsRecipe
    lessons: Lessons
    vae: AutoencoderKL
    readers: dict[str, Reader]  # of the hand and the thing
    classes: dict[str, Tensor]  # of every example, as the readers number them
    eyes: Backbone  # the critic's
    real: Tensor  # uint8 drawings to train on, through the autoencoder, in the order of their pool
    empty: Tensor  # token states (32, 384) of no words

    def compute_loss(self, studio: Studio, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw trained pairs and give what readers and critic say of them, as the weights count it, with the critic's own loss."""
        recipe = self.recipe
        chosen = self.lessons.choose(1, recipe.batch_size, generator)
        images = self.draw_estimates(studio.drawing, chosen, generator)
        loss, figures = torch.zeros((), device=images.device), {}
        for kind, weight in (("hand", recipe.hand_weight), ("thing", recipe.thing_weight)):
            with torch.autocast(images.device.type, torch.bfloat16):
                logits = self.readers[kind](images).float()
            answers = self.classes[kind][chosen]
            loss = loss + weight * functional.cross_entropy(logits, answers)
            figures[f"{kind}_right"] = (logits.detach().argmax(1) == answers).float().mean()
        families, places = self.classes["hand"], torch.randint(len(self.real), (recipe.batch_size,), generator=generator, device=DEVICE)
        drawn, real = see(self.eyes, images, generator), see(self.eyes, scale_images(self.real[places]), generator)
        score = studio.critic.score_frozen(drawn, families[chosen])
        told_apart = studio.critic.compute_loss(real, families[self.lessons.pools[1][places]], drawn, families[chosen])
        figures |= {"realness": score.detach(), "critic": told_apart.detach()}
        return loss - recipe.real_weight * score + CRITIC_SHARE * told_apart, figures

    def draw_estimates(self, model: DrawingModel, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Draw examples to a random step; its estimates are images (B, 3, 64, 64) near [-1, 1], whose gradient comes through that step alone."""
        lessons = self.lessons
        states = draw_texts(lessons.words.names, lessons.examples.things[chosen], generator)
        look = model.write_look(lessons.looks, *draw_look_items(lessons.looks, lessons.examples, chosen, generator))
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
        latents = torch.randn((len(chosen), *lessons.latents.shape[1:]), generator=generator, device=DEVICE)
        stop = int(torch.randint(1, self.recipe.steps, (), generator=generator, device=DEVICE))
        with torch.no_grad():
            for step in sampler.timesteps[:stop]:
                latents = sampler.step(predict(latents, step), step, latents).prev_sample
        step = sampler.timesteps[stop]
        kept = lessons.noiser.alphas_cumprod[step]
        estimates = kept.sqrt() * latents - (1 - kept).sqrt() * predict(latents, step)
        with torch.autocast(estimates.device.type, torch.bfloat16):
            images = self.vae.decode(estimates / self.vae.config.scaling_factor).sample
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
    lessons, eyes = load_lessons(vae, config), load_eyes()
    model = DrawingModel(config, vae.config.latent_channels, lessons.looks.visual.shape[1])
    model.unet.set_attn_processor(AttnProcessor())
    load_shipped(model)
    blank = torch.zeros((1, 3, IMAGE_SIZE, IMAGE_SIZE), device=DEVICE)
    studio = Studio(model, Critic([layer.shape[1] for layer in see(eyes, blank, torch.Generator(DEVICE))]))
    kinds = ("hand", "thing")
    exam = Exam(
        recipe=recipe,
        lessons=lessons,
        vae=load_vae().eval().requires_grad_(False).to(DEVICE),  # checkpoints are measured on the CPU, with the other one
        readers={kind: load_reader(kind).to(DEVICE) for kind in kinds},
        classes={kind: name_classes(lessons.examples, kind) for kind in kinds},
        eyes=eyes,
        real=reconstruct(vae, lessons.latents[lessons.pools[1]].cpu()).to(DEVICE),
        empty=encode_texts([""])[0].float().to(DEVICE),
    )

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        own, figures = lessons.compute_loss(model, config, generator)
        asked, answers = exam.compute_loss(studio, generator)
        return recipe.own_weight * own + asked, figures | answers

    def measure(measured: DrawingModel, held: Asked) -> dict[str, float]:
        return measure_read(measured, vae, held, exam)

    train_drawing_model("hands", studio, vae, config, compute_loss, goes_on=True, part="drawing.", measure=measure)


if __name__ == "__main__":
    main()
