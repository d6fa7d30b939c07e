"""From conditions to pictures, with the U-Net, autoencoder and sampler of diffusers: like Stable Diffusion 1.5, or like XL.

Departure from the pipelines of diffusers, which a test shows to give the same pictures: the denoising loop is written out, for no pipeline hides
padding from a U-Net of the first kind, and none draws without text encoders and in few lines.

Legend: B pictures, N places of the condition, d its width, C, h, w latent shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pipeline.models.diffusion import NotFiniteError, guide
from pipeline.models.lavit.config import LavitSampling, Pixels
from pipeline.models.lavit.decoder import Condition
from pipeline.models.official_weights import read_file
from pipeline.models.prompt_projection import project_once
from pipeline.models.references import explain_load_error

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

FOLDERS: dict[Pixels, str] = {"lowres": "pixel_decoding", "highres": "highres_pixel_decoding"}
SOURCE = "copy it from the official weights, rain1011/LaVIT-7B-v2"
UNCONDITIONAL = "uncond_embeddings.bin"
EMPTY = "uncond_embeddings"
MAX_UNCONDITIONAL_BYTES = 16 * 2**20


class PixelDecoder:
    """Frozen models that draw; `empty_KD` is the empty text's states, which guidance of the low-resolution kind leads away from."""

    def __init__(self, unet: UNet2DConditionModel, vae: AutoencoderKL, scheduler: DDIMScheduler, empty_KD: Tensor | None) -> None:
        self.unet, self.vae = (model.requires_grad_(False).eval() for model in (unet, vae))
        self.scheduler, self.empty_KD = scheduler, empty_KD
        self.scale = 2 ** (len(vae.config.block_out_channels) - 1)  # px of a latent place

    @torch.inference_mode()
    def draw(self, condition: Condition, *, generators: Sequence[torch.Generator], sampling: LavitSampling) -> np.ndarray:
        """Draw one picture per condition: uint8 (B, H, W, 3), each from its own CPU generator; NotFiniteError if one of them is none."""
        latents_BChw = self.denoise(condition, generators=generators, sampling=sampling)
        image_BCHW = self.vae.decode(latents_BChw.to(self.vae.dtype) / self.vae.config.scaling_factor, return_dict=False)[0].float()
        bad_B = ~image_BCHW.isfinite().flatten(1).all(dim=1).cpu().numpy()
        images_BHWC = ((image_BCHW.nan_to_num() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        if bad_B.any():
            raise NotFiniteError(images_BHWC, bad_B)
        return images_BHWC

    def denoise(self, condition: Condition, *, generators: Sequence[torch.Generator], sampling: LavitSampling) -> Tensor:
        """Run the denoising loop to latents (B, C, h, w)."""
        self.check_size(sampling)
        size, guided = len(generators), sampling.guidance_scale > 1
        shape = (self.unet.config.in_channels, sampling.height // self.scale, sampling.width // self.scale)
        scheduler = type(self.scheduler).from_config(self.scheduler.config)  # a fresh one: it keeps the state of a run
        scheduler.set_timesteps(sampling.steps, device=self.unet.device)
        latents_BChw = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(self.unet.device, self.unet.dtype)
        latents_BChw = latents_BChw * scheduler.init_noise_sigma
        told = self.tell(condition, sampling)
        rows = slice(None) if guided else slice(size, None)
        states, added = told.pop("encoder_hidden_states")[rows], {name: select_rows(value, rows) for name, value in told.items()}
        with project_once(self.unet, states):
            for timestep in scheduler.timesteps:
                model_input = scheduler.scale_model_input(torch.cat([latents_BChw] * (2 if guided else 1)), timestep)
                output = self.unet(model_input, timestep, encoder_hidden_states=states, return_dict=False, **added)[0]
                output = guide(output.split(size), [sampling.guidance_scale])
                latents_BChw = scheduler.step(output, timestep, latents_BChw, return_dict=False)[0]
        return latents_BChw

    def check_size(self, sampling: LavitSampling) -> None:
        """Raise ValueError if the U-Net cannot halve the picture as often as it has to."""
        step = self.scale * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if sampling.width % step or sampling.height % step:
            raise ValueError(f"lavit.sampling: width and height are {sampling.width} and {sampling.height}, but they must be multiples of {step} px.")

    def tell(self, condition: Condition, sampling: LavitSampling) -> dict[str, Any]:
        """Return what the U-Net is given beside latents and time: first what guidance leads away from, then the condition."""
        device, dtype = self.unet.device, self.unet.dtype
        states_BND = condition.states_BND.to(device, dtype)
        nothing_BND = torch.zeros_like(states_BND)
        if condition.pooled_BP is not None:
            pooled_BP = condition.pooled_BP.to(device, dtype)
            size = (sampling.height, sampling.width)
            times_BT = torch.tensor([[*size, 0, 0, *size]], device=device, dtype=dtype).repeat(2 * len(states_BND), 1)  # drawn at its size, not cut
            added = {"text_embeds": torch.cat([torch.zeros_like(pooled_BP), pooled_BP]), "time_ids": times_BT}
            return {"encoder_hidden_states": torch.cat([nothing_BND, states_BND]), "added_cond_kwargs": added}
        assert self.empty_KD is not None, "a low-resolution U-Net comes with the empty text's states"
        length = len(self.empty_KD)
        nothing_BND[:, :length] = self.empty_KD.to(device, dtype)
        is_there_2N = torch.ones(2, states_BND.shape[1], dtype=torch.bool, device=device)
        is_there_2N[0, length:] = False
        mask = is_there_2N.repeat_interleave(len(states_BND), dim=0)
        return {"encoder_hidden_states": torch.cat([nothing_BND, states_BND]), "encoder_attention_mask": mask}


def select_rows(value: Any, rows: slice) -> Any:
    """Select rows of a tensor, or of a block of them."""
    return {name: part[rows] for name, part in value.items()} if isinstance(value, dict) else value[rows]


def load_pixels(folder: Path, pixels: Pixels, places: int, *, device: torch.device | str, dtype: torch.dtype) -> PixelDecoder:
    """Load U-Net, autoencoder (always in float32, for it overflows in float16) and sampler from one of the official folders."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    folder = folder / FOLDERS[pixels]
    with explain_load_error("pixel decoder of LaVIT", str(folder)):
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype)
        vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
        scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", clip_sample=False)  # of latents, which are no pixels in [-1, 1]
        is_highres = unet.config.addition_embed_type == "text_time"
        if is_highres != (pixels == "highres"):
            raise ValueError(f"its U-Net is like that of Stable Diffusion {'XL' if is_highres else '1.5'}, but {pixels} needs the other kind")
        empty_KD = None if is_highres else read_unconditional(folder / UNCONDITIONAL, unet.config.cross_attention_dim, places)
    return PixelDecoder(unet.to(device), vae.to(device), scheduler, empty_KD)


def read_unconditional(path: Path, width: int, places: int) -> Tensor:
    """Read the empty text's states (K, d) of the official file (1, K, d)."""
    empty_1KD = read_file(path, source=SOURCE, max_bytes=MAX_UNCONDITIONAL_BYTES)
    if isinstance(empty_1KD, dict) and empty_1KD.keys() == {EMPTY}:  # in safetensors a tensor has a name
        empty_1KD = empty_1KD[EMPTY]
    if not isinstance(empty_1KD, Tensor) or empty_1KD.ndim != 3 or empty_1KD.shape[-1] != width or empty_1KD.shape[1] > places:
        raise ValueError(f"{path} must hold one tensor of shape (1, {places} at most, {width}); take the official file as it is")
    return empty_1KD[0].float()
