"""Save a tiny, randomly initialised LaVIT in the official layout, both kinds of pixel decoder among it, and a `lavit.json` that says how small it is.

It looks at 16 px in 16 patches and draws 16 px.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipeline.models.lavit.config import LavitSampling
from pipeline.models.lavit.decoder import HighresDecoder, LowresDecoder
from pipeline.models.lavit.shape import LavitShape
from pipeline.models.lavit.tokenizer import VisualTokenizer
from pipeline.models.lavit.vision import build_vision

SIZE = 16  # px, seen and drawn
NUM_PATCHES = 16
CONTEXT = 200  # tokens that the language model reads
SHAPE = LavitShape(
    image_size=SIZE,
    patch_size=4,
    width=24,
    heads=3,
    mlp_width=40,
    vision_layers=2,
    vision_classes=7,
    merger_layers=2,
    decoder_layers=2,
    num_codes=50,
    code_width=6,
    text_tokens=260,
    lowres_width=16,
    highres_widths=(12, 20),
    pooled_width=20,
)
SAMPLING = LavitSampling(
    language_guidance=2.0,
    temperature=1.0,
    top_k=50,
    top_p=1.0,
    min_new_tokens=4,
    max_new_tokens=12,
    pixels="lowres",
    width=SIZE,
    height=SIZE,
    steps=2,
    guidance_scale=3.0,
)


def randomise(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Fill every weight at random, those that begin as zeros or ones among them."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 0.5)
    return model.eval()


def build_tiny_unet(pixels: str) -> UNet2DConditionModel:
    kind = {"cross_attention_dim": SHAPE.lowres_width}
    if pixels == "highres":
        kind = {
            "cross_attention_dim": sum(SHAPE.highres_widths),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": SHAPE.pooled_width + 6 * 8,
        }
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        **kind,
    )


def build_tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIZE,
    )


def save_tiny_language(folder: Path) -> None:
    """Save a Llama with a token per byte; its tokenizer has two ids less than it may."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=SHAPE.vocabulary,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def save_tiny_lavit(folder: Path) -> Path:
    weights = folder / "visual_tokenizer"
    weights.mkdir(parents=True)
    parts = {
        "eva_vitg_psz14.bin": build_vision(SHAPE),
        "tokenizer_encoder.bin": VisualTokenizer(SHAPE),
        "tokenizer_decoder.bin": LowresDecoder(SHAPE),
        "highres_tokenizer_decoder.bin": HighresDecoder(SHAPE),
    }
    for name, model in parts.items():
        torch.save(randomise(model).state_dict(), weights / name)
    (folder / "lavit.json").write_text(json.dumps(asdict(SHAPE)))
    save_tiny_language(folder / "language_model")
    for pixels, name in (("lowres", "pixel_decoding"), ("highres", "highres_pixel_decoding")):
        # as the official folders are: the U-Net as .bin, the autoencoder as safetensors
        randomise(build_tiny_unet(pixels)).save_pretrained(folder / name / "unet", safe_serialization=pixels == "lowres")
        randomise(build_tiny_vae()).save_pretrained(folder / name / "vae")
        DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1).save_pretrained(folder / name / "scheduler")
    torch.save(torch.randn(1, 5, SHAPE.lowres_width, generator=torch.Generator().manual_seed(3)), folder / "pixel_decoding" / "uncond_embeddings.bin")
    return folder
