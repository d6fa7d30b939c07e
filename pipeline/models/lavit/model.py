"""LaVIT as the pipeline uses it: pictures and words in, pictures out.

A folder, or a hub id, has the official layout: `language_model/`, `visual_tokenizer/` (eva_vitg_psz14.bin, tokenizer_encoder.bin, and
highres_tokenizer_decoder.bin or tokenizer_decoder.bin), `highres_pixel_decoding/` or `pixel_decoding/`; `lavit.json` gives the sizes of other models
of the same kind.

Legend: B pictures, K codes of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.models.eva import Eva
from torch import Tensor

from pipeline.models.folders import resolve_model
from pipeline.models.lavit.config import LavitSampling, Pixels
from pipeline.models.lavit.decoder import CodeDecoder, HighresDecoder, LowresDecoder
from pipeline.models.lavit.language import Part, PictureLanguage, load_language, load_title_budget
from pipeline.models.lavit.pixels import FOLDERS, SOURCE, PixelDecoder, load_pixels
from pipeline.models.lavit.prompts import write_prompt
from pipeline.models.lavit.shape import CONFIG_NAME, LavitShape, read_shape
from pipeline.models.lavit.tokenizer import VisualTokenizer, draw_noise
from pipeline.models.lavit.vision import build_vision, prepare_images, see
from pipeline.models.official_weights import load_weights
from pipeline.models.references import explain_load_error, is_path, split_revision
from pipeline.models.text_budget import TextBudget

LANGUAGE, TOKENIZER = "language_model", "visual_tokenizer"
VISION_FILE, ENCODER_FILE = "eva_vitg_psz14.bin", "tokenizer_encoder.bin"
DECODERS: dict[Pixels, tuple[str, type[CodeDecoder]]] = {
    "lowres": ("tokenizer_decoder.bin", LowresDecoder),
    "highres": ("highres_tokenizer_decoder.bin", HighresDecoder),
}


class Lavit:
    """All frozen models. `dtype` is that of convolutions and products of matrices in LaVIT's own networks, whose weights stay float32."""

    def __init__(
        self,
        shape: LavitShape,
        vision: Eva,
        tokenizer: VisualTokenizer,
        decoder: CodeDecoder,
        language: PictureLanguage,
        pixels: PixelDecoder,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape, self.language, self.pixels, self.dtype = shape, language, pixels, dtype
        self.vision, self.tokenizer, self.decoder = (model.requires_grad_(False).eval() for model in (vision, tokenizer, decoder))
        self.device: torch.device = tokenizer.quantize.embedding.weight.device

    @torch.inference_mode()
    def read_images(self, images: Sequence[Image.Image], generators: Sequence[torch.Generator]) -> list[Tensor]:
        """Return each RGB picture's codes (K,) on the CPU; which patches it is told by is drawn with its own CPU generator."""
        if not images:
            return []
        noise_BN2 = draw_noise(generators, self.shape.num_patches).to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            patch_BNW = see(self.vision, prepare_images(images, self.shape.image_size).to(self.device))
            return [code_K.cpu() for code_K in self.tokenizer.tokenize(patch_BNW, noise_BN2)]

    def fit_prompt(self, title: str, reference: Tensor, history: Sequence[Tensor], sampling: LavitSampling) -> list[Part] | None:
        """Write a prompt that leaves room for the answer: of too many liked pictures the oldest are not shown. None if nothing helps."""
        room = self.language.context - 1 - self.language.limit_codes(sampling)
        prompts = (write_prompt(title, reference, history[first:]) for first in range(len(history) + 1))
        return next((parts for parts in prompts if len(self.language.number_parts(parts)) <= room), None)

    def write_codes(self, parts: Sequence[Part], generator: torch.Generator, sampling: LavitSampling) -> Tensor:
        """Let the language model write the codes (K,) of the picture that a prompt asks for; K is 0 where it writes none."""
        return self.language.write_codes(self.language.number_parts(parts), sampling, generator)

    @torch.inference_mode()
    def draw_codes(self, codes: Sequence[Tensor], generators: Sequence[torch.Generator], sampling: LavitSampling) -> np.ndarray:
        """Draw pictures of their codes: uint8 (B, H, W, 3), each from noise of its own CPU generator; NotFiniteError if one of them is none."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            condition = self.decoder([self.tokenizer.quantize.read_codes(code_K.to(self.device)) for code_K in codes])
        return self.pixels.draw(condition, generators=generators, sampling=sampling)


def load_lavit(reference: str, *, pixels: Pixels, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Lavit:
    """Load all models from a folder or the hub's copy on this machine."""
    folder = find_folder(reference)
    weights, (file, build_decoder) = folder / TOKENIZER, DECODERS[pixels]
    with explain_load_error("LaVIT model", reference):
        shape = read_shape(folder)
    with explain_load_error("visual tokenizer of LaVIT", str(weights)):
        with torch.device("meta"):
            vision, tokenizer, decoder = build_vision(shape), VisualTokenizer(shape), build_decoder(shape)
        # the tokenizer's file may hold the vision tower as well
        load_weights(tokenizer, weights / ENCODER_FILE, source=SOURCE, spare=2 * sum(parameter.numel() for parameter in vision.parameters()))
        load_weights(decoder, weights / file, source=SOURCE)
        load_weights(vision, weights / VISION_FILE, source=SOURCE)
        restore_buffers(vision)
    language = load_language(folder / LANGUAGE, shape, device=device, dtype=dtype)
    decoder_of_pixels = load_pixels(folder, pixels, shape.num_patches, device=device, dtype=dtype)
    return Lavit(shape, vision.to(device), tokenizer.to(device), decoder.to(device), language, decoder_of_pixels, dtype)


def restore_buffers(vision: Eva) -> None:
    """Fill in what no file holds: the keys have no bias."""
    for block in vision.blocks:
        block.attn.k_bias = torch.zeros_like(block.attn.q_bias)


def load_text_budget(reference: str) -> TextBudget:
    """Load how much of a title the language model reads; no weights are read."""
    return load_title_budget(find_folder(reference) / LANGUAGE)


def find_folder(reference: str) -> Path:
    """Return the folder of a reference: itself, an assembled one, or the hub's copy."""
    from huggingface_hub import snapshot_download

    resolved = resolve_model(reference)
    if is_path(resolved):
        return Path(resolved)
    name, revision = split_revision(resolved)
    wanted = [CONFIG_NAME, *(f"{part}/*" for part in (LANGUAGE, TOKENIZER, *FOLDERS.values()))]
    with explain_load_error("LaVIT model", reference):
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
