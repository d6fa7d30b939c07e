"""The drawing model with its look map: its shape, how it draws, and its shipped folder; the recipe is `embedded.train_unet`."""

import copy
from dataclasses import dataclass, field

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor, nn

from embedded.prompts import LookBank
from embedded.stickers import scale_images
from embedded.texts import TEXT_WIDTH
from embedded.training import DRAWING_DIR, WEIGHTS_DIR, LoopConfig
from pipeline.json_files import write_json
from pipeline.models.look import LookMap, LookShape, load_look_map, save_look_map


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


def load_shipped(model: DrawingModel) -> None:
    """Take over the shipped U-Net, but for layers of another shape."""
    shipped, own = UNet2DConditionModel.from_pretrained(DRAWING_DIR / "unet").float().state_dict(), model.unet.state_dict()
    model.unet.load_state_dict({name: value if value.shape == own[name].shape else own[name] for name, value in shipped.items()})
    path = WEIGHTS_DIR / "look" / "model.safetensors"
    if path.is_file():
        model.look.load_state_dict(load_look_map(path).state_dict())
