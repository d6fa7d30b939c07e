"""Train the drawing model: a small `UNet2DConditionModel` on the autoencoder's latents, conditioned on MiniLM token states and look tokens.

Run as `python -m embedded.train_unet` after `train_vae` (three hours on two cores). The look map (`pipeline.models.look`), which writes look tokens
from pictures, is trained with it; both are frozen afterwards, for every method alike. v-prediction on
a cosine schedule, whose last step is nearly pure noise: with latents this small, that is what lets a dark or a pale background follow the
prompt. Steps of little noise are weighted down as in min-SNR (Hang et al. 2023). Latents, token states and picture vectors are computed once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn

from embedded.drawing_model import DrawingModel, UnetConfig, build_noiser, draw_images, encode_latents, export_model, load_shipped
from embedded.examples import Examples, describe_example, load_examples
from embedded.prompts import NO_LOOK_SHARE, PLAIN_SHARE, LookBank, TextBank, draw_look_items, draw_words, load_look_bank, load_text_bank
from embedded.stickers import DEFAULT_UNIVERSE
from embedded.texts import encode_texts
from embedded.train_vae import load_vae
from embedded.training import DEVICE, TRAIN_DIR, move_tensors, parse_arguments, train_module
from pipeline.data.openmoji import STYLES
from pipeline.models.look import fit_prediction


def compute_unet_loss(
    unet: UNet2DConditionModel, latents: Tensor, states: Tensor, noiser: DDPMScheduler, max_snr: float, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted squared error of the predicted velocity.

    Steps of little noise count less, as with min-SNR. Steps of much noise count in full, which min-SNR all but leaves out: a drawing's
    style is decided there.
    """
    steps = torch.randint(noiser.config.num_train_timesteps, (len(latents),), generator=generator, device=latents.device)
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    noisy, velocity = noiser.add_noise(latents, noise, steps), noiser.get_velocity(latents, noise, steps)
    with torch.autocast(latents.device.type, torch.bfloat16):
        predicted = unet(noisy, steps, states).sample.float()
    alpha = noiser.alphas_cumprod[steps]
    snr = alpha / (1 - alpha)
    error = (predicted - velocity).square().mean(dim=(1, 2, 3))
    weight = (max_snr / snr).clamp(max=1)
    return (weight * error).mean() / weight.mean(), {"mse": error.detach().mean()}


def build_pools(examples: Examples, config: UnetConfig) -> tuple[Tensor, Tensor]:
    """Number the stickers, some of them several times, and the drawings."""
    things, looks = examples.things[: examples.num_stickers], examples.looks[: examples.num_stickers]
    default = torch.where(things < DEFAULT_UNIVERSE, config.default_copies, 1)
    bare = torch.where(looks == STYLES.index("outline"), config.bare_copies, 1)
    return torch.arange(examples.num_stickers).repeat_interleave(default * bare), torch.arange(examples.num_stickers, len(examples))


@dataclass(frozen=True)
class Asked:
    """Pairs to draw, the pictures that show their looks (all of pairs that were trained on), and what their things are called."""

    examples: Examples
    latents: Tensor
    states: Tensor  # (N, 32, 384)
    items: Tensor  # (N, 5) numbers of trained pairs
    bank: LookBank  # of the trained pairs

    def select(self, rows: Tensor, model: DrawingModel) -> tuple[Tensor, Tensor]:
        """Return the words' token states of rows, and the look tokens of five pictures by the right hand."""
        items = self.items[rows]
        return self.states[rows], model.write_look(self.bank, items, torch.full(items.shape, 1 / items.shape[1]))


def ask(vae: AutoencoderKL, examples: Examples, trained: Examples, bank: LookBank) -> Asked:
    """Ask for pairs, with five trained pictures of other things in the look of each."""
    generator = torch.Generator().manual_seed(3)
    items = torch.zeros((len(examples), 5), dtype=torch.long)
    for row in range(len(examples)):
        own = bank.members[examples.looks[row]]
        own = own[trained.things[own] != examples.things[row]]
        items[row] = own[torch.randperm(len(own), generator=generator)[:5]]
    states = encode_texts([describe_example(examples, row) for row in range(len(examples))])[0].float()
    return Asked(examples, encode_latents(vae, examples.images), states, items, bank)


@torch.no_grad()
def measure_held_out(model: DrawingModel, held: Asked, config: UnetConfig) -> dict[str, float]:
    """Mean squared error of the predicted velocity on held-out pairs: stickers by their words, drawings by their names, both also with a look."""
    count = held.examples.num_stickers
    figures = {}
    for name, rows in (("stickers", torch.arange(count)), ("drawings", torch.arange(count, len(held.examples)))):
        states, look = held.select(rows, model)
        for kind, condition in (("words", states), ("look", torch.cat([states, look], dim=1))):
            generator = torch.Generator().manual_seed(0)
            rounds = [
                compute_unet_loss(model.unet, held.latents[rows], condition, build_noiser(), config.max_snr, generator)[1]["mse"].item()
                for _ in range(2)
            ]
            figures[f"held_out_{name}_{kind}"] = sum(rounds) / len(rounds)
    return figures


def save_contact_sheets(model: DrawingModel, vae: AutoencoderKL, held: Asked) -> None:
    """Save held-out stickers above what the model draws of their words, and held-out drawings above what it draws of name and look."""
    empty = encode_texts([""])[0].float()
    count = held.examples.num_stickers
    for name, first, last in (("stickers", 0, count), ("drawings", count, len(held.examples))):
        rows = first + torch.randperm(last - first, generator=torch.Generator().manual_seed(5))[:24]
        states, look = held.select(rows, model)
        drawn = draw_images(model, vae, states, None if name == "stickers" else look, empty, words_scale=3.0, look_scale=3.0, steps=12, seed=0)
        real = held.examples.images[rows]
        lines = [part for start in (0, 12) for part in (real[start : start + 12], drawn[start : start + 12])]
        sheet = torch.cat([torch.cat(list(line), dim=2) for line in lines], dim=1).permute(1, 2, 0).numpy()
        Image.fromarray(sheet).save(TRAIN_DIR / "unet" / f"held_out_{name}.png")


@dataclass(frozen=True)
class Lessons:
    """All that a step is drawn from, where the training computes."""

    examples: Examples
    words: TextBank
    looks: LookBank
    latents: Tensor
    pools: list[Tensor]  # numbers of the stickers, and of the drawings
    noiser: DDPMScheduler

    def choose(self, pool: int, count: int, generator: torch.Generator) -> Tensor:
        """Draw numbers of examples from a pool."""
        numbers = self.pools[pool]
        return numbers[torch.randint(len(numbers), (count,), generator=generator, device=numbers.device)]

    def compute_loss(self, model: DrawingModel, config: UnetConfig, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw a batch with its conditions and give the model's error."""
        num_drawings = round(config.drawing_share * config.batch_size)
        chosen = torch.cat([self.choose(0, config.batch_size - num_drawings, generator), self.choose(1, num_drawings, generator)])
        with_look = torch.rand((), generator=generator, device=DEVICE).item() >= PLAIN_SHARE
        states = draw_words(self.words, self.examples, chosen, generator, with_look=with_look)
        if with_look:
            tokens = model.write_look(self.looks, *draw_look_items(self.looks, self.examples, chosen, generator))
            dropped = torch.rand(len(chosen), generator=generator, device=DEVICE) < NO_LOOK_SHARE
            states = torch.cat([states, model.drop_look(tokens, dropped)], dim=1)
        return compute_unet_loss(model.unet, self.latents[chosen], states, self.noiser, config.max_snr, generator)


def load_lessons(vae: AutoencoderKL, config: UnetConfig) -> Lessons:
    """Load the trained pairs, their latents, and the conditions that they are drawn with."""
    examples = load_examples(held_out=False)
    words, looks = load_text_bank(examples, seed=config.loop.seed), load_look_bank(examples, "trained")
    latents, pools = encode_latents(vae, examples.images), list(build_pools(examples, config))
    return Lessons(*(move_tensors(part) for part in (replace(examples, images=examples.images[:0]), words, looks, latents, pools)), build_noiser())


def main() -> None:
    """Train, resume or finish."""
    base = UnetConfig()
    arguments = parse_arguments(__doc__, base.loop)
    torch.manual_seed(0)
    config = replace(base, batch_size=arguments.batch_size or base.batch_size, loop=arguments.loop)
    vae = load_vae().eval()
    lessons = load_lessons(vae, config)
    visual_dim, channels = lessons.looks.visual.shape[1], vae.config.latent_channels
    model = DrawingModel(config, channels, visual_dim)
    model.unet.set_attn_processor(AttnProcessor())  # fused attention spends half of a step in its backward pass here
    fit_prediction(model.look, lessons.looks.visual.cpu(), lessons.looks.text.cpu(), ridge=config.ridge)
    if arguments.from_shipped:
        load_shipped(model)
    train_drawing_model("unet", model, vae, config, lambda generator: lessons.compute_loss(model, config, generator), goes_on=arguments.from_shipped)


def train_drawing_model(
    name: str,
    module: nn.Module,
    vae: AutoencoderKL,
    config: UnetConfig,
    compute_loss: Callable[[torch.Generator], tuple[Tensor, dict[str, Tensor]]],
    *,
    goes_on: bool,
    part: str = "",
    measure: Callable[[DrawingModel, Asked], dict[str, float]] | None = None,
) -> None:
    """Train, resume or finish under the name of a recipe; every checkpoint is shipped and measured on held-out pairs, also as `measure` does it.

    The drawing model is the module, or that `part` of it whose weights' names begin so.
    """
    trained = load_examples(held_out=False)
    held = ask(vae, load_examples(held_out=True), trained, load_look_bank(trained, "trained"))

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        own = {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}
        measured = export_model(own, config, vae.config.latent_channels, held.bank.visual.shape[1])
        save_contact_sheets(measured, vae, held)
        return measure_held_out(measured, held, config) | (measure(measured, held) if measure else {})

    train_module(name, module, config.loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=goes_on)


if __name__ == "__main__":
    main()
