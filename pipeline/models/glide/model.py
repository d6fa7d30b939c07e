"""GLIDE as the pipeline uses it: texts in, pictures out.

A folder holds the official files: `base.pt`, `upsample.pt` (plain state dicts), `encoder.json.gz` and `vocab.bpe.gz`; `config.json` gives the sizes
of other models of the same kind.

Legend: B pictures, h, w size, H, W size of the larger picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.models.diffusion import NotFiniteError
from pipeline.models.folders import resolve_model
from pipeline.models.glide.config import GlideSampling
from pipeline.models.glide.sampling import (
    build_ancestral,
    build_ddim,
    choose_steps,
    choose_upsample_steps,
    compute_alphas,
    guide,
    round_to_8_bits,
)
from pipeline.models.glide.shape import GlideShape, read_shapes
from pipeline.models.glide.text import TextStates
from pipeline.models.glide.tokens import GlideTokenizer, load_tokenizer
from pipeline.models.glide.unet import GlideUnet
from pipeline.models.official_weights import load_weights
from pipeline.models.references import explain_load_error
from pipeline.models.text_budget import TextBudget

BASE, UPSAMPLER = "base.pt", "upsample.pt"


class Glide:
    """Both frozen models. `dtype` is that of convolutions and products of matrices; weights, norms and what is summed stay float32."""

    def __init__(self, base: GlideUnet, upsampler: GlideUnet, tokenizer: GlideTokenizer, dtype: torch.dtype = torch.float32) -> None:
        for model, name in ((base, BASE), (upsampler, UPSAMPLER)):
            model.requires_grad_(False).eval()
            if tokenizer.size != model.shape.vocabulary:
                raise ValueError(f"its tokenizer knows {tokenizer.size:,} tokens and {name} {model.shape.vocabulary:,}, but they must be as many")
        self.base, self.upsampler, self.tokenizer, self.dtype = base, upsampler, tokenizer, dtype
        self.device: torch.device = base.positional_embedding.device
        self.text_budget = budget_glide(tokenizer, base.shape)

    @torch.inference_mode()
    def draw(self, prompts: Sequence[str], *, generators: Sequence[torch.Generator], sampling: GlideSampling) -> np.ndarray:
        """Draw one image per prompt: uint8 (B, H, W, 3), each from its own CPU generator; NotFiniteError if one of them is none."""
        if len(generators) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need {len(prompts)} generators, not {len(generators)}.")
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            small_B3hw = self.draw_small(prompts, generators, sampling)
            image_B3HW = self.enlarge(small_B3hw, prompts, generators, sampling)
        bad_B = ~image_B3HW.isfinite().flatten(1).all(dim=1).cpu().numpy()
        images_BHW3 = ((image_B3HW.nan_to_num() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        if bad_B.any():
            raise NotFiniteError(images_BHW3, bad_B)
        return images_BHW3

    def draw_small(self, prompts: Sequence[str], generators: Sequence[torch.Generator], sampling: GlideSampling) -> Tensor:
        """Draw with the base model, guided away from the empty text -> pixels (B, 3, h, w) in [-1, 1]."""
        text = self.read_text(self.base, [*prompts, *([""] * len(prompts))])
        steps = choose_steps([sampling.steps])
        sampler = build_ancestral(compute_alphas(self.base.shape.schedule), steps)
        x_B3hw = self.draw_noise(self.base, generators)
        for step in sampler.timesteps.tolist():
            output = self.base(x_B3hw.repeat(2, 1, 1, 1), self.number(steps[step], 2 * len(prompts)), text).float()
            x_B3hw = sampler.step(guide(output, sampling.guidance_scale), step, x_B3hw, generator=list(generators), return_dict=False)[0]
        return x_B3hw

    def enlarge(self, small_B3hw: Tensor, prompts: Sequence[str], generators: Sequence[torch.Generator], sampling: GlideSampling) -> Tensor:
        """Draw the same pictures larger with the upsampler, without guidance -> pixels (B, 3, H, W) in [-1, 1]."""
        text = self.read_text(self.upsampler, prompts)
        steps = choose_upsample_steps(sampling.upsample_steps)
        sampler = build_ddim(compute_alphas(self.upsampler.shape.schedule), steps)
        low_res_B3hw = round_to_8_bits(small_B3hw)
        x_B3HW = self.draw_noise(self.upsampler, generators) * sampling.upsample_temperature
        for step in sampler.timesteps.tolist():
            output = self.upsampler(x_B3HW, self.number(steps[step], len(prompts)), text, low_res_B3hw).float()
            # the noise is told anew from the clipped picture, as GLIDE does it
            x_B3HW = sampler.step(output[:, :3], step, x_B3HW, use_clipped_model_output=True, return_dict=False)[0]
        return x_B3HW

    def read_text(self, model: GlideUnet, texts: Sequence[str]) -> TextStates:
        """Encode texts with one of the models' own transformer."""
        ids_BK, is_text_BK = self.tokenizer.pad(texts, model.shape.text_tokens)
        return model.read_text(ids_BK.to(self.device), is_text_BK.to(self.device))

    def draw_noise(self, model: GlideUnet, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw what a picture starts from, each from its own generator."""
        size = (3, model.shape.image_size, model.shape.image_size)
        return torch.stack([torch.randn(size, generator=generator) for generator in generators]).to(self.device)

    def number(self, timestep: int, size: int) -> Tensor:
        """Return a timestep for each of `size` pictures."""
        return torch.full((size,), timestep, device=self.device)


def budget_glide(tokenizer: GlideTokenizer, shape: GlideShape) -> TextBudget:
    """Return how much the models read of a text."""
    return TextBudget(lambda text: len(tokenizer.encode(text)), shape.text_tokens)


def load_glide(reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Glide:
    """Load both models from a folder."""
    folder = Path(resolve_model(reference))
    with explain_load_error("GLIDE model", str(folder)):
        shapes = read_shapes(folder)
        base, upsampler = (load_unet(folder / name, shape) for name, shape in ((BASE, shapes.base), (UPSAMPLER, shapes.upsample)))
        return Glide(base.to(device), upsampler.to(device), load_tokenizer(folder), dtype)


def load_glide_budget(reference: str) -> TextBudget:
    """Load how much the models read of a text; no weights are read."""
    folder = Path(resolve_model(reference))
    with explain_load_error("tokenizer of the GLIDE model", str(folder)):
        return budget_glide(load_tokenizer(folder), read_shapes(folder).base)


def load_unet(path: Path, shape: GlideShape) -> GlideUnet:
    """Load one model, as float32, from a state dict in the official layout."""
    with torch.device("meta"):
        model = GlideUnet(shape)
    return load_weights(model, path, source=f"the official models have {BASE} and {UPSAMPLER}")
