"""IP-Adapter (Ye et al. 2023) in its official layout for Stable Diffusion: image prompts by attention of their own beside the words'.

Folder (`h94/IP-Adapter` on the hub, or one like it): `models/ip-adapter_sd15.safetensors` with the tensors `image_proj.*` and `ip_adapter.*`, and
the image encoder in `models/image_encoder/`. Attention processors and their scales are diffusers'.

Shapes: B cases, N pictures, E width of an image embedding.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipeline.cluster.parcels import remember_call
from pipeline.models.diffusion import Diffusion, load_diffusion
from pipeline.models.references import CHECKED, check_loaded, choose_variant, explain_load_error, locate_weights

SUBFOLDER, WEIGHTS, ENCODER = "models", "ip-adapter_sd15.safetensors", "image_encoder"
ENCODE_BATCH = 16  # filled up, so that a picture's embedding depends on it only
BlockScales = float | dict[str, Any]  # one scale for all blocks, or diffusers' map of blocks to scales


class AdaptedDiffusion(Diffusion):
    """A frozen Stable Diffusion pipeline that reads image prompts as well."""

    _embedding_BE: Tensor | None = None  # of the pictures that are followed now

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Encode pictures as the adapter was trained to see them -> (N, E)."""
        parts = []
        for start in range(0, len(pictures), ENCODE_BATCH):
            batch = list(pictures[start : start + ENCODE_BATCH])
            pixels_NCHW = self.pipeline.feature_extractor(batch, return_tensors="pt").pixel_values
            filled_NCHW = functional.pad(pixels_NCHW, (0, 0, 0, 0, 0, 0, 0, ENCODE_BATCH - len(batch)))
            with torch.inference_mode():
                embedding_NE = self.pipeline.image_encoder(filled_NCHW.to(self.device, self.dtype)).image_embeds
            parts.append(embedding_NE[: len(batch)])
        return torch.cat(parts)

    @contextlib.contextmanager
    def follow(self, embedding_BE: Tensor) -> Iterator[None]:
        """Let the cases that are drawn meanwhile follow an image embedding each."""
        self._embedding_BE = embedding_BE
        try:
            yield
        finally:
            self._embedding_BE = None

    def denoise(self, prompts: Sequence[Tensor], scales: Any, **options: Any) -> Tensor:
        """Denoise with the image prompts; what guidance leads away from has none (IP-Adapter: zeros)."""
        if self._embedding_BE is None:
            raise ValueError("an adapted diffusion model draws after pictures only; draw within `follow`.")
        followed = self._embedding_BE
        embedding_NE = torch.cat([*[torch.zeros_like(followed)] * (len(prompts) - 1), followed])
        unet = self.pipeline.unet
        unet.forward = functools.partial(type(unet).forward, unet, added_cond_kwargs={"image_embeds": [embedding_NE[:, None]]})
        try:
            return super().denoise(prompts, scales, **options)
        finally:
            del unet.forward  # that of its class stands again


@remember_call
def load_adapted_diffusion(
    adapter: str,
    reference: str,
    *,
    scale: BlockScales,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    scheduler: str = "dpm",
) -> AdaptedDiffusion:
    """Load a Stable Diffusion pipeline of its own with an adapter from a hub id or folder; ValueError if that is none, or does not fit."""
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    pipeline = load_diffusion(reference, device=device, dtype=dtype, scheduler=scheduler).pipeline
    with explain_load_error("image prompt adapter", adapter):
        folder = locate_weights(adapter)
        if folder is None or not (folder / SUBFOLDER / WEIGHTS).is_file():
            raise ValueError(f"there is no file {SUBFOLDER}/{WEIGHTS}")
        encoder_folder = folder / SUBFOLDER / ENCODER
        encoder, report = CLIPVisionModelWithProjection.from_pretrained(
            encoder_folder, dtype=dtype, use_safetensors=True, **CHECKED, **choose_variant(str(encoder_folder))
        )
        check_loaded(report)
        size = encoder.config.image_size
        processor = CLIPImageProcessor(size=size, crop_size=size)
        pipeline.register_modules(image_encoder=encoder.requires_grad_(False).eval().to(device), feature_extractor=processor)
        pipeline.load_ip_adapter(str(folder), subfolder=SUBFOLDER, weight_name=WEIGHTS, image_encoder_folder=None, local_files_only=True)
        pipeline.set_ip_adapter_scale(scale)
    return AdaptedDiffusion(pipeline.to(device, dtype))
