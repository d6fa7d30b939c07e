"""Train the drawing model: a small `UNet2DConditionModel` on the autoencoder's latents, conditioned on MiniLM token states and look tokens.

Run as `python -m embedded.train_unet` after `train_vae` (three hours on two cores). The look map (`pipeline.models.look`), which writes look tokens
from pictures, is trained with it; both are frozen afterwards, for every method alike. v-prediction on
a cosine schedule, whose last step is nearly pure noise: with latents this small, that is what lets a dark or a pale background follow the
prompt. Steps of little noise are weighted down as in min-SNR (Hang et al. 2023). Latents, token states and picture vectors are computed once.
"""

import copy
from dataclasses import dataclass, field, replace

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn

from embedded.examples import Examples, describe_example, load_examples
from embedded.prompts import NO_LOOK_SHARE, PLAIN_SHARE, LookBank, draw_look_items, draw_words, load_look_bank, load_text_bank
from embedded.stickers import DEFAULT_UNIVERSE, scale_images
from embedded.texts import TEXT_WIDTH, encode_texts
from embedded.train_vae import load_vae
from embedded.training import DEVICE, DRAWING_DIR, TRAIN_DIR, WEIGHTS_DIR, LoopConfig, move_tensors, parse_arguments, train_module
from pipeline.data.openmoji import STYLES
from pipeline.json_files import write_json
from pipeline.models.look import LookMap, LookShape, fit_prediction, load_look_map, save_look_map


@dataclass(frozen=True)
class UnetConfig:
    """Shape and recipe of the drawing model."""

    channels: tuple[int, ...] = (96, 160)  # per resolution 8, 4
    head_dim: int = 32
    batch_size: int = 64
    max_snr: float = 5.0  # beyond it a step's weight falls, as min-SNR's gamma
    default_copies: int = 2  # draws of a pair of the default data set for one of any other pair
    bare_copies: int = 3  # draws of a pair in the outline style, the only one without fills, for one in any other style
    drawing_share: float = 0.55  # of a batch: drawings by artists
    look_width: int = 256
    look_tokens: int = 4
    ridge: float = 0.3  # of the regression of picture vectors on texts
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=16000, peak_rate=1e-3, warmup_steps=150, ema_decay=0.998, checkpoint_seconds=900)
    )


def build_unet(config: UnetConfig, latent_channels: int) -> UNet2DConditionModel:
    """Build an untrained model."""
    depth = len(config.channels)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * depth,
        up_block_types=("CrossAttnUpBlock2D",) * depth,
        block_out_channels=config.channels,
        layers_per_block=1,
        cross_attention_dim=384,
        # diffusers takes the number of heads under this name
        attention_head_dim=tuple(width // config.head_dim for width in config.channels),
        norm_num_groups=16,
    )


def build_sampler() -> DPMSolverMultistepScheduler:
    """DPM-Solver++ on the schedule of the training."""
    return DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
        steps_offset=1,  # unused with trailing steps, but the pipeline warns about 0
    )


def build_noiser() -> DDPMScheduler:
    """The noise schedule of the training."""
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


class DrawingModel(nn.Module):
    """What is trained: the U-Net, and the map that writes its look tokens."""

    def __init__(self, config: UnetConfig, latent_channels: int, visual_dim: int) -> None:
        super().__init__()
        self.unet = build_unet(config, latent_channels)
        shape = LookShape(visual_dim=visual_dim, text_dim=TEXT_WIDTH, width=config.look_width, num_tokens=config.look_tokens, token_dim=TEXT_WIDTH)
        self.look = LookMap(shape)
        self.look.predicted.requires_grad_(False)

    def write_look(self, bank: LookBank, number_BN: Tensor, weight_BN: Tensor) -> Tensor:
        """Write the look tokens (B, M, d) of the pictures numbered so in a bank."""
        return self.look.write_tokens(self.look.map_items(bank.visual[number_BN], bank.text[number_BN]), weight_BN)

    def drop_look(self, tokens_BMD: Tensor, dropped_B: Tensor) -> Tensor:
        """Put the tokens that say nothing in the place of some rows' tokens."""
        return torch.where(dropped_B[:, None, None], self.look.no_look_MD, tokens_BMD)


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, images_u8: Tensor) -> Tensor:
    """Encode images to scaled latents (the posterior's mean)."""
    parts = [vae.encode(scale_images(batch)).latent_dist.mode() for batch in images_u8.split(64)]
    return torch.cat(parts) * vae.config.scaling_factor


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


def export_model(state: dict[str, Tensor], config: UnetConfig, latent_channels: int, visual_dim: int) -> DrawingModel:
    """Write the shipped part of the StableDiffusionPipeline folder (MiniLM is added when it is assembled) and the look map; return the model."""
    folder = DRAWING_DIR
    model = DrawingModel(config, latent_channels, visual_dim).eval()
    model.load_state_dict(state)
    save_look_map(WEIGHTS_DIR / "look" / "model.safetensors", copy.deepcopy(model.look).half())
    copy.deepcopy(model.unet).half().save_pretrained(folder / "unet")
    build_sampler().save_pretrained(folder / "scheduler")
    import diffusers

    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "BertModel"],
        "tokenizer": ["transformers", "BertTokenizerFast"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", index)
    return model


@dataclass(frozen=True)
class HeldOut:
    """Held-out pairs, the pictures that show their looks (all of pairs that were trained on), and what their things are called."""

    examples: Examples
    latents: Tensor
    states: Tensor  # (N, 32, 384)
    items: Tensor  # (N, 5) numbers of trained pairs
    bank: LookBank  # of the trained pairs

    def select(self, rows: Tensor, model: DrawingModel) -> tuple[Tensor, Tensor]:
        """Return the words' token states of rows, and the look tokens of five pictures by the right hand."""
        items = self.items[rows]
        return self.states[rows], model.write_look(self.bank, items, torch.full(items.shape, 1 / items.shape[1]))


def load_held_out(vae: AutoencoderKL, trained: Examples, bank: LookBank) -> HeldOut:
    """Load the held-out pairs, with five pictures of other things in the look of each."""
    held, generator = load_examples(held_out=True), torch.Generator().manual_seed(3)
    items = torch.zeros((len(held), 5), dtype=torch.long)
    for row in range(len(held)):
        own = bank.members[held.looks[row]]
        own = own[trained.things[own] != held.things[row]]
        items[row] = own[torch.randperm(len(own), generator=generator)[:5]]
    states = encode_texts([describe_example(held, row) for row in range(len(held))])[0].float()
    return HeldOut(held, encode_latents(vae, held.images), states, items, bank)


@torch.no_grad()
def measure_held_out(model: DrawingModel, held: HeldOut, config: UnetConfig) -> dict[str, float]:
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


@torch.no_grad()
def draw_images(
    model: DrawingModel,
    vae: AutoencoderKL,
    states: Tensor,
    look: Tensor | None,
    empty: Tensor,
    *,
    words_scale: float,
    look_scale: float,
    steps: int,
    seed: int,
) -> Tensor:
    """Draw uint8 images (row, 3, 64, 64): u + words_scale (words - u) + look_scale (both - words); without a look the second part is left out."""
    sampler = build_sampler()
    sampler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn((len(states), model.unet.config.in_channels, 8, 8), generator=generator)
    conditions = [empty.expand_as(states), states]
    if look is not None:
        no_look = model.look.no_look_MD.expand_as(look)
        conditions = [torch.cat([words, no_look], dim=1) for words in conditions] + [torch.cat([states, look], dim=1)]
    stacked = torch.cat(conditions)
    for step in sampler.timesteps:
        free, led, *both = model.unet(torch.cat([latents] * len(conditions)), step, stacked).sample.chunk(len(conditions))
        guided = free + words_scale * (led - free) + (look_scale * (both[0] - led) if both else 0)
        latents = sampler.step(guided, step, latents).prev_sample
    images = vae.decode(latents / vae.config.scaling_factor).sample
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def save_contact_sheets(model: DrawingModel, vae: AutoencoderKL, held: HeldOut) -> None:
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


def load_shipped(model: DrawingModel) -> None:
    """Take over the shipped U-Net, but for layers of another shape."""
    shipped, own = UNet2DConditionModel.from_pretrained(DRAWING_DIR / "unet").float().state_dict(), model.unet.state_dict()
    model.unet.load_state_dict({name: value if value.shape == own[name].shape else own[name] for name, value in shipped.items()})
    path = WEIGHTS_DIR / "look" / "model.safetensors"
    if path.is_file():
        model.look.load_state_dict(load_look_map(path).state_dict())


def main() -> None:
    """Train, resume or finish."""
    base = UnetConfig()
    arguments = parse_arguments(__doc__, base.loop)
    torch.manual_seed(0)
    config = replace(base, batch_size=arguments.batch_size or base.batch_size, loop=arguments.loop)
    examples, vae = load_examples(held_out=False), load_vae().eval()
    words, looks = load_text_bank(examples, seed=config.loop.seed), load_look_bank(examples, "trained")
    held = load_held_out(vae, examples, looks)
    visual_dim, channels = looks.visual.shape[1], vae.config.latent_channels
    model = DrawingModel(config, channels, visual_dim)
    model.unet.set_attn_processor(AttnProcessor())  # fused attention spends half of a step in its backward pass here
    fit_prediction(model.look, looks.visual, looks.text, ridge=config.ridge)
    if arguments.from_shipped:
        load_shipped(model)
    latents = encode_latents(vae, examples.images).to(DEVICE)
    noiser, pools = build_noiser(), [pool.to(DEVICE) for pool in build_pools(examples, config)]
    examples, words, looks = (move_tensors(part) for part in (replace(examples, images=examples.images[:0]), words, looks))
    num_drawings = round(config.drawing_share * config.batch_size)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        counts = (config.batch_size - num_drawings, num_drawings)
        chosen = torch.cat(
            [pool[torch.randint(len(pool), (count,), generator=generator, device=DEVICE)] for pool, count in zip(pools, counts, strict=True)]
        )
        with_look = torch.rand((), generator=generator, device=DEVICE).item() >= PLAIN_SHARE
        states = draw_words(words, examples, chosen, generator, with_look=with_look)
        if with_look:
            tokens = model.write_look(looks, *draw_look_items(looks, examples, chosen, generator))
            dropped = torch.rand(len(chosen), generator=generator, device=DEVICE) < NO_LOOK_SHARE
            states = torch.cat([states, model.drop_look(tokens, dropped)], dim=1)
        return compute_unet_loss(model.unet, latents[chosen], states, noiser, config.max_snr, generator)

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        measured = export_model(state, config, channels, visual_dim)
        save_contact_sheets(measured, vae, held)
        return measure_held_out(measured, held, config)

    train_module("unet", model, config.loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=arguments.from_shipped)


if __name__ == "__main__":
    main()
