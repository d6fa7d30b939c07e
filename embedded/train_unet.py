"""Train the drawing model: a small `UNet2DConditionModel` on the autoencoder's latents, conditioned on MiniLM token states.

Run as `python -m embedded.train_unet` after `train_vae` (two hours on one core). v-prediction on
a cosine schedule, whose last step is nearly pure noise: with latents this small, that is what lets a dark or a pale background follow the
prompt. Steps of little noise are weighted down as in min-SNR (Hang et al. 2023). Latents and token states are computed once.
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor

from embedded import prompts, texts
from embedded.prompts import ConditionBank, build_condition_bank, draw_conditions
from embedded.stickers import DEFAULT_UNIVERSE, Stickers, describe_pair, load_stickers, scale_images
from embedded.texts import encode_texts
from embedded.train_vae import load_vae
from embedded.training import TRAIN_DIR, WEIGHTS_DIR, LoopConfig, parse_arguments, train_module, write_atomically
from pipeline.data.openmoji import STYLES
from pipeline.json_files import write_json


@dataclass(frozen=True)
class UnetConfig:
    """Shape and recipe of the drawing model."""

    channels: tuple[int, ...] = (96, 160)  # per resolution 8, 4
    head_dim: int = 32
    batch_size: int = 64
    max_snr: float = 5.0  # beyond it a step's weight falls, as min-SNR's gamma
    default_copies: int = 2  # draws of a pair of the default data set for one of any other pair
    bare_copies: int = 3  # draws of a pair in the outline style, the only one without fills, for one in any other style
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=16000, peak_rate=1e-3, warmup_steps=150, ema_decay=0.998, checkpoint_seconds=300)
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


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, images_u8: Tensor) -> Tensor:
    """Encode images to scaled latents (the posterior's mean)."""
    parts = [vae.encode(scale_images(batch)).latent_dist.mode() for batch in images_u8.split(64)]
    return torch.cat(parts) * vae.config.scaling_factor


def compute_unet_loss(
    unet: UNet2DConditionModel, latents: Tensor, states: Tensor, noiser: DDPMScheduler, max_snr: float, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Weighted squared error of the predicted velocity.

    Steps of little noise count less, as with min-SNR. Steps of much noise count in full, which min-SNR all but leaves out: a drawing's
    style is decided there.
    """
    steps = torch.randint(noiser.config.num_train_timesteps, (len(latents),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    noisy, velocity = noiser.add_noise(latents, noise, steps), noiser.get_velocity(latents, noise, steps)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = unet(noisy, steps, states).sample.float()
    alpha = noiser.alphas_cumprod[steps]
    snr = alpha / (1 - alpha)
    error = (predicted - velocity).square().mean(dim=(1, 2, 3))
    weight = (max_snr / snr).clamp(max=1)
    return (weight * error).mean() / weight.mean(), {"mse": error.mean().item()}


def load_condition_bank(stickers: Stickers, pairs: Tensor, seed: int) -> ConditionBank:
    """Read the cached token states of the training texts, or compute them; the cache's name covers how they are written."""
    sources = b"".join(Path(module.__file__).read_bytes() for module in (prompts, texts))
    path = TRAIN_DIR / "unet" / f"conditions-{len(pairs)}-{seed}-{hashlib.sha256(sources).hexdigest()[:12]}.pt"
    if not path.is_file():
        bank = build_condition_bank(stickers, pairs, seed=seed)
        write_atomically(path, lambda temporary: torch.save(vars(bank), temporary))
    return ConditionBank(**torch.load(path, weights_only=True))


def build_pool(pairs: Tensor, config: UnetConfig) -> Tensor:
    """Number the (concept, style) pairs that are drawn from, some of them several times."""
    default = torch.where(pairs[:, 0] < DEFAULT_UNIVERSE, config.default_copies, 1)
    bare = torch.where(pairs[:, 1] == STYLES.index("outline"), config.bare_copies, 1)
    return torch.arange(len(pairs)).repeat_interleave(default * bare)


def export_unet(state: dict[str, Tensor], config: UnetConfig, latent_channels: int) -> None:
    """Write the shipped part of the StableDiffusionPipeline folder; MiniLM is added when the folder is assembled."""
    folder = WEIGHTS_DIR / "diffusion"
    unet = build_unet(config, latent_channels)
    unet.load_state_dict(state)
    unet.half().save_pretrained(folder / "unet")
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


@torch.no_grad()
def draw_prompts(unet: UNet2DConditionModel, vae: AutoencoderKL, states: Tensor, empty: Tensor, *, guidance: float, steps: int, seed: int) -> Tensor:
    """Draw uint8 images (row, 3, 64, 64) for token states, as the pipeline does, for looking at while training."""
    sampler = build_sampler()
    sampler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn((len(states), unet.config.in_channels, 8, 8), generator=generator)
    both = torch.cat([empty.expand_as(states), states])
    for step in sampler.timesteps:
        free, led = unet(torch.cat([latents, latents]), step, both).sample.chunk(2)
        latents = sampler.step(free + guidance * (led - free), step, latents).prev_sample
    images = vae.decode(latents / vae.config.scaling_factor).sample
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def measure_held_out(unet: UNet2DConditionModel, vae: AutoencoderKL, stickers: Stickers, config: UnetConfig) -> dict[str, float]:
    """Mean squared error of the predicted velocity on held-out pairs of the default data set, with their canonical texts."""
    rows = stickers.list_pairs(held_out=True)
    rows = rows[rows[:, 0] < DEFAULT_UNIVERSE]
    states = encode_pairs(stickers, rows)
    latents, generator = encode_latents(vae, stickers.images[rows[:, 0], rows[:, 1]]), torch.Generator().manual_seed(0)
    with torch.no_grad():
        rounds = [compute_unet_loss(unet, latents, states, build_noiser(), config.max_snr, generator)[1]["mse"] for _ in range(3)]
    return {"held_out_mse": sum(rounds) / len(rounds)}


def encode_pairs(stickers: Stickers, rows: Tensor) -> Tensor:
    """Give the token states of the pairs' canonical texts."""
    texts = [describe_pair(stickers.concepts[concept].name, STYLES[style]) for concept, style in rows.tolist()]
    return encode_texts(texts)[0].float()


def save_contact_sheet(unet: UNet2DConditionModel, vae: AutoencoderKL, stickers: Stickers) -> None:
    """Save real renders of held-out pairs above what the model draws for them."""
    held = stickers.list_pairs(held_out=True)
    rows = held[torch.randperm(len(held), generator=torch.Generator().manual_seed(5))[:24]]
    states = encode_pairs(stickers, rows)
    drawn = draw_prompts(unet, vae, states, encode_texts([""])[0].float(), guidance=4.0, steps=20, seed=0)
    real = stickers.images[rows[:, 0], rows[:, 1]]
    lines = [part for start in (0, 12) for part in (real[start : start + 12], drawn[start : start + 12])]
    sheet = torch.cat([torch.cat(list(line), dim=2) for line in lines], dim=1).permute(1, 2, 0).numpy()
    Image.fromarray(sheet).save(TRAIN_DIR / "unet" / "held_out.png")


def main() -> None:
    """Train, resume or finish."""
    base = UnetConfig()
    arguments = parse_arguments(__doc__, base.loop)
    torch.manual_seed(0)
    config = replace(base, loop=arguments.loop)
    stickers = load_stickers()
    pairs = stickers.list_pairs(held_out=False)
    vae = load_vae().eval()
    unet = build_unet(config, vae.config.latent_channels)
    unet.set_attn_processor(AttnProcessor())  # fused attention spends half of a step in its backward pass here
    if arguments.from_shipped:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(WEIGHTS_DIR / "diffusion" / "unet").float().state_dict())
    bank = load_condition_bank(stickers, pairs, config.loop.seed)
    latents = encode_latents(vae, stickers.images[pairs[:, 0], pairs[:, 1]])
    noiser = build_noiser()
    pool = build_pool(pairs, config)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        chosen = pool[torch.randint(len(pool), (config.batch_size,), generator=generator)]
        states = draw_conditions(bank, chosen, pairs[chosen], generator)
        return compute_unet_loss(unet, latents[chosen], states, noiser, config.max_snr, generator)

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        export_unet(state, config, vae.config.latent_channels)
        measured = build_unet(config, vae.config.latent_channels).eval()
        measured.load_state_dict(state)
        save_contact_sheet(measured, vae, stickers)
        return measure_held_out(measured, vae, stickers, config)

    train_module("unet", unet, config.loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=arguments.from_shipped)


if __name__ == "__main__":
    main()
