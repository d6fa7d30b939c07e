"""The shipped models as the pipeline loads them, put to use on many pictures."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from embedded.train_captioner import write_captions
from embedded.train_vae import measure_psnr
from pipeline.models.folders import resolve_model


def measure_reconstructions(images: Tensor) -> Tensor:
    """Send uint8 images through the autoencoder and give each one's PSNR in dB."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(Path(resolve_model("embedded/diffusion")) / "vae").float().eval()
    return measure_psnr(vae, images)


@torch.no_grad()
def encode_images(images: Tensor) -> tuple[Tensor, Callable[[list[str]], Tensor]]:
    """Encode uint8 images, normalised, and give what encodes texts alike."""
    import open_clip

    folder = f"local-dir:{resolve_model('embedded/clip')}"
    model, _, preprocess = open_clip.create_model_and_transforms(folder)
    tokenizer = open_clip.get_tokenizer(folder)
    model.eval()
    pixels = torch.stack([preprocess(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])

    @torch.no_grad()
    def encode(texts: list[str]) -> Tensor:
        batches = [tokenizer(texts[start : start + 128]) for start in range(0, len(texts), 128)]
        return torch.cat([model.encode_text(batch, normalize=True) for batch in batches])

    return torch.cat([model.encode_image(batch, normalize=True) for batch in pixels.split(64)]), encode


def caption(images: Tensor) -> list[str]:
    """Caption uint8 images."""
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    folder = resolve_model("embedded/captioner")
    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    return write_captions(model, Blip2Processor.from_pretrained(folder), images)
