"""Save a Stable Diffusion 1.5 of full size with random weights, in the hub's own layout: what the paper's profile loads, without a download.

2.1 GB in float16. Only the tokenizer is small: its vocabulary cannot be made up, so it knows single letters.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.tiny_models import save_clip_tokenizer

NUM_TOKENS, TOKEN_DIM, IMAGE_SIZE = 77, 768, 512
NUM_UNET_PARAMETERS = 859_520_964  # the published model's


def save_full_stable_diffusion(folder: Path) -> Path:
    """Save all parts of the pipeline with the published configuration."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    try:
        save_clip_tokenizer(folder / "letters")
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / "letters"), model_max_length=NUM_TOKENS)
        pipeline = StableDiffusionPipeline(
            vae=build_vae(),
            text_encoder=build_text_encoder(tokenizer),
            tokenizer=tokenizer,
            unet=build_unet(),
            scheduler=PNDMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(folder, safe_serialization=True)
    finally:
        torch.set_default_dtype(torch.float32)
    return folder


def build_unet() -> UNet2DConditionModel:
    """Build the U-Net: 859.5 million parameters."""
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 8,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        cross_attention_dim=TOKEN_DIM,
        attention_head_dim=8,
    )


def build_vae() -> AutoencoderKL:
    """Build the autoencoder: 83.7 million parameters."""
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=IMAGE_SIZE,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build the text tower of CLIP ViT-L/14, with the published number of rows in its embedding table."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49_408,
            hidden_size=TOKEN_DIM,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=NUM_TOKENS,
            projection_dim=TOKEN_DIM,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
