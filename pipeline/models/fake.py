"""Deterministic toy stand-ins for the model wrappers, with the same methods and shapes. For unit tests only: no pipeline run uses them.

They are simple enough to reason about: a word is a fixed random vector, a prompt a list of word vectors behind a shared first one,
a drawn image one colour (a squashed projection of the prompt's mean) plus noise, and an image feature a projection of the mean colour.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipeline.models.diffusion import LookPrompt, Start
from pipeline.models.text_budget import UNBOUNDED


def make_vector(text: str, width: int) -> Tensor:
    """Make a standard normal vector that depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))


def make_matrix(name: str, rows: int, columns: int) -> Tensor:
    """Make a fixed projection, rows scaled so that outputs have about the size of inputs."""
    return make_vector(name, rows * columns).reshape(rows, columns) / rows**0.5


def encode_words(text: str, *, num_tokens: int, width: int) -> tuple[Tensor, Tensor]:
    """Encode a text as (num_tokens, width) states, padding included, and the mask of its real tokens."""
    tokens = ["<first>", *text.split()][:num_tokens]
    padding = ["<padding>"] * (num_tokens - len(tokens))
    states_TD = torch.stack([make_vector(token, width) for token in tokens + padding])
    return states_TD, torch.tensor([True] * len(tokens) + [False] * len(padding))


class FakeDiffusion:
    """Draws one colour per prompt."""

    def __init__(self, *, token_dim: int = 8, num_tokens: int = 6, image_size: int = 8) -> None:
        self.token_dim, self.num_tokens, self.image_size = token_dim, num_tokens, image_size
        self.device = torch.device("cpu")
        self.colour_D3 = make_matrix("colour", token_dim, 3)
        self.num_drawn = 0
        self.text_budget = UNBOUNDED

    def encode_prompts(self, prompts: list[str], *, batch_size: int = 64) -> tuple[Tensor, Tensor]:
        """Encode every prompt by its words."""
        encoded = [encode_words(prompt, num_tokens=self.num_tokens, width=self.token_dim) for prompt in prompts]
        return torch.stack([states for states, _ in encoded]), torch.stack([mask for _, mask in encoded])

    def encode_images(self, images_BHWC: np.ndarray) -> Tensor:
        """Take the images themselves for latents."""
        return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).float()

    def decode_latents(self, latents_BChw: Tensor) -> np.ndarray:
        """Return the image that latents are here."""
        return latents_BChw.permute(0, 2, 3, 1).round().clamp(0, 255).to(torch.uint8).numpy()

    def draw(
        self,
        prompt_BTD: Tensor,
        *,
        generators: list[torch.Generator],
        steps: int,
        guidance_scale: float,
        negative_prompt: str = "",
        look: LookPrompt | None = None,
        start: Start | None = None,
    ) -> np.ndarray:
        """Draw (B, H, W, 3): the prompt's colour plus the generator's noise, which shrinks with the number of steps.

        A look moves the prompt's mean by its own; a start is blended with the image by the strength.
        """
        if len(generators) != len(prompt_BTD):
            raise ValueError(f"{len(prompt_BTD)} prompts need as many generators, but there are {len(generators)}.")
        self.num_drawn += len(prompt_BTD)
        size = self.image_size
        colour_B3 = self.choose_colours(prompt_BTD.detach(), guidance_scale, negative_prompt, look)
        noise_BHWC = torch.stack([torch.randn(size, size, 3, generator=generator) for generator in generators])
        image_BHWC = 255.0 * colour_B3[:, None, None, :] + 4.0 / steps * noise_BHWC
        if start is not None:
            image_BHWC = start.strength * image_BHWC + (1 - start.strength) * start.latents_BChw.permute(0, 2, 3, 1)
        return image_BHWC.round().clamp(0, 255).to(torch.uint8).numpy()

    def choose_colours(self, prompt_BTD: Tensor, guidance_scale: float, negative_prompt: str, look: LookPrompt | None) -> Tensor:
        """Return each image's colour (B, 3) in (0, 1)."""
        mean_BD = torch.stack([prompt_TD.mean(dim=0) for prompt_TD in prompt_BTD])
        if negative_prompt:
            mean_BD = mean_BD - self.encode_prompts([negative_prompt])[0][0].mean(dim=0)
        if look is not None:
            words, scale = (torch.as_tensor(1.0 if factor is None else factor).reshape(-1, 1) for factor in (look.words, look.scale))
            mean_BD = words * mean_BD + scale * (look.tokens_BMD - look.no_look_MD).mean(dim=1)
        return torch.sigmoid(guidance_scale * mean_BD @ self.colour_D3)

    def estimate_pixels(
        self,
        prompt_BTD: Tensor,
        *,
        generators: list[torch.Generator],
        guidance_scale: float,
        negative_prompt: str = "",
        look: LookPrompt | None = None,
    ) -> Tensor:
        """Return the colours as pixels (B, 3, H, W), differentiable."""
        colour_B3 = self.choose_colours(prompt_BTD, guidance_scale, negative_prompt, look)
        return colour_B3[:, :, None, None].expand(-1, -1, self.image_size, self.image_size)


class FakeClip:
    """Image and text encoder of one joint space; also stands in for the visual encoder."""

    text_budget = UNBOUNDED

    def __init__(self, *, dim: int = 5, token_dim: int = 8) -> None:
        self.dim = dim
        self.image_3V = make_matrix("image", 3, dim)
        self.text_DV = make_matrix("text", token_dim, dim)

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        """Project the mean colour, centred on grey -> (B, V), L2-normalised."""
        colour_B3 = torch.stack([torch.from_numpy(np.asarray(image, dtype=np.float32)).mean(dim=(0, 1)) for image in images])
        return functional.normalize((colour_B3 / 255.0 - 0.5) @ self.image_3V, dim=1)

    def see_pixels(self, pixel_BCHW: Tensor) -> Tensor:
        """Encode images in [0, 1], differentiable."""
        return functional.normalize((pixel_BCHW.mean(dim=(2, 3)) - 0.5) @ self.image_3V, dim=1)

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Project the mean word vector -> (B, V), L2-normalised."""
        means = [torch.stack([make_vector(word, len(self.text_DV)) for word in text.split() or [""]]).mean(dim=0) for text in texts]
        return functional.normalize(torch.stack(means) @ self.text_DV, dim=1)

    def project_text_states(self, pooled_BH: Tensor) -> Tensor:
        """Apply the frozen text projection to pooled token states -> (B, V), differentiable."""
        if pooled_BH.shape[1] != len(self.text_DV):
            raise ValueError(f"pooled text states have width {pooled_BH.shape[1]}, but the text projection takes {len(self.text_DV)}.")
        return pooled_BH @ self.text_DV
