"""Train the autoencoder: 64 px stickers and artists' drawings to 8x8 latents and back.

Run as `python -m embedded.train_vae` (two hours on one core): first both halves, then the decoder alone on the finished
latents, which the drawing model can be trained on meanwhile (`--decoder-only` starts there, from the shipped weights).

A plain `diffusers` AutoencoderKL, narrow at full resolution, where the time goes;
bfloat16 activations halve the time of a step on processors that have the instructions.
Both phases minimise each image's log squared error, which is its PSNR up to sign and scale, with hardly any KL: the latents' scale is measured
afterwards and put into `scaling_factor`. Half of a batch are stickers, half artists' drawings, which are harder: shading, gradients, nine hands.
"""

import argparse
from dataclasses import dataclass, field, replace

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from embedded.artist_drawings import ArtistDrawings, load_artist_drawings
from embedded.stickers import Stickers, flip_images, load_stickers, scale_images, shift_images
from embedded.training import DEVICE, DRAWING_DIR, LoopConfig, move_tensors, train_module


@dataclass(frozen=True)
class VaeConfig:
    """Shape and recipe of the autoencoder."""

    channels: tuple[int, ...] = (16, 48, 96, 192)  # per resolution 64, 32, 16, 8
    latent_channels: int = 16
    batch_size: int = 16
    shift: int = 4  # pixels
    kl_weight: float = 3e-6
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=6000, peak_rate=3e-3, weight_decay=0.0, muon=True, checkpoint_seconds=600))
    latent_noise: float = 0.02  # added to the decoder's inputs, in standard deviations of the latents
    decoder_loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=16000, peak_rate=2e-3, weight_decay=0.0, muon=True, checkpoint_seconds=600)
    )


def build_vae(config: VaeConfig) -> AutoencoderKL:
    """Build an untrained autoencoder."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(config.channels),
        up_block_types=("UpDecoderBlock2D",) * len(config.channels),
        block_out_channels=config.channels,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


@dataclass(frozen=True)
class Pictures:
    """Images (uint8) of the two kinds: those to train on, the stickers first, and the held-out ones of each kind."""

    trained: Tensor
    num_stickers: int
    held_out: tuple[Tensor, Tensor]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the numbers of `count` training images, half of each kind."""
        stickers = torch.randint(self.num_stickers, (count - count // 2,), generator=generator, device=generator.device)
        others = torch.randint(self.num_stickers, len(self.trained), (count // 2,), generator=generator, device=generator.device)
        return torch.cat([stickers, others])


def load_pictures() -> Pictures:
    """Load both kinds; of the held-out stickers every third is enough."""
    kinds = (load_stickers(), load_artist_drawings())
    trained, held_out = ([choose_images(kind, held_out=held_out) for kind in kinds] for held_out in (False, True))
    return Pictures(torch.cat(trained), len(trained[0]), (held_out[0][::3], held_out[1]))


def choose_images(kind: Stickers | ArtistDrawings, *, held_out: bool) -> Tensor:
    """Return the images of the pairs that are, or are not, held out."""
    rows = kind.list_pairs(held_out=held_out)
    return kind.images[rows[:, 0], rows[:, 1]]


def compute_log_error(decoded: Tensor, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean log squared error of the decoded images, and their mean PSNR."""
    squared = (decoded.float() - images).square().mean(dim=(1, 2, 3))
    return 0.1 * torch.log(squared + 1e-5).mean(), {"psnr": compute_psnr(squared.detach()).mean()}


def compute_vae_loss(vae: AutoencoderKL, images: Tensor, noise_generator: torch.Generator, kl_weight: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction loss and its parts, for images in [-1, 1]."""
    with torch.autocast(DEVICE.type, torch.bfloat16):
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample(generator=noise_generator)).sample
    loss, figures = compute_log_error(decoded, images)
    kl = posterior.kl().float().mean()
    return loss + kl_weight * kl, {**figures, "kl": kl.detach()}


def compute_decoder_loss(vae: AutoencoderKL, latents: Tensor, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction loss of given latents."""
    with torch.autocast(DEVICE.type, torch.bfloat16):
        decoded = vae.decode(latents).sample
    return compute_log_error(decoded, images)


def compute_psnr(squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for images in [-1, 1]."""
    return 10 * torch.log10(4 / squared_error)


@torch.no_grad()
def measure_psnr(vae: AutoencoderKL, images_u8: Tensor) -> Tensor:
    """PSNR of each image after encoding to the mean and decoding, clamped."""
    images = scale_images(images_u8)
    decoded = [vae.decode(vae.encode(batch).latent_dist.mode()).sample.clamp(-1, 1) for batch in images.split(32)]
    return compute_psnr((torch.cat(decoded) - images).square().mean(dim=(1, 2, 3)))


def export_vae(state: dict[str, Tensor], config: VaeConfig, pictures: Pictures) -> dict[str, float]:
    """Measure the latents' scale on training images, write the shipped folder, and measure held-out pairs of both kinds."""
    vae = build_vae(config).eval()
    vae.load_state_dict(state)
    with torch.no_grad():
        images = scale_images(pictures.trained[pictures.draw(512, torch.Generator().manual_seed(0))])
        latents = torch.cat([vae.encode(batch).latent_dist.mode() for batch in images.split(32)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    psnr = [measure_psnr(vae, images).mean().item() for images in pictures.held_out]
    vae.half().save_pretrained(DRAWING_DIR / "vae")
    return {"held_out_psnr": psnr[0], "held_out_psnr_artists": psnr[1]}


def load_vae() -> AutoencoderKL:
    """Load the shipped autoencoder in float32."""
    return AutoencoderKL.from_pretrained(DRAWING_DIR / "vae").float()


def train_both(config: VaeConfig, pictures: Pictures) -> AutoencoderKL:
    """Train encoder and decoder together."""
    vae, pool = build_vae(config), move_tensors(pictures)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        images = scale_images(pool.trained[pool.draw(config.batch_size, generator)])
        images = flip_images(shift_images(images, generator, reach=config.shift), generator)
        return compute_vae_loss(vae, images, generator, config.kl_weight)

    state = train_module("vae", vae, config.loop, compute_loss=compute_loss, on_checkpoint=lambda state: export_vae(state, config, pictures))
    vae.load_state_dict(state)
    return vae.cpu()


def train_decoder(vae: AutoencoderKL, config: VaeConfig, pictures: Pictures, *, goes_on: bool) -> None:
    """Train the decoder on the latents of a frozen encoder, computed once."""
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    with torch.no_grad():
        latents = torch.cat([vae.encode(scale_images(batch)).latent_dist.mode() for batch in pictures.trained.split(64)])
    jitter = config.latent_noise * latents.std().item()
    latents, pool = latents.to(DEVICE), move_tensors(pictures)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        rows = pool.draw(config.batch_size, generator)
        noise = jitter * torch.randn(latents[rows].shape, generator=generator, device=generator.device)
        return compute_decoder_loss(vae, latents[rows] + noise, scale_images(pool.trained[rows]))

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        return export_vae(state, config, pictures)

    train_module("vae_decoder", vae, config.decoder_loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=goes_on)


def main() -> None:
    """Train, resume or finish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=VaeConfig().loop.steps, help="of both halves")
    parser.add_argument("--decoder-steps", type=int, default=VaeConfig().decoder_loop.steps)
    parser.add_argument("--batch-size", type=int, default=VaeConfig().batch_size)
    parser.add_argument("--decoder-only", action="store_true", help="keep the shipped encoder")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = VaeConfig()
    config = replace(
        config,
        batch_size=arguments.batch_size,
        loop=replace(config.loop, steps=arguments.steps),
        decoder_loop=replace(config.decoder_loop, steps=arguments.decoder_steps),
    )
    pictures = load_pictures()
    vae = load_vae() if arguments.decoder_only else train_both(config, pictures)
    train_decoder(vae, config, pictures, goes_on=arguments.decoder_only)


if __name__ == "__main__":
    main()
