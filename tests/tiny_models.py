"""Save a tiny, randomly initialised Qwen2 and Stable Diffusion 1.5 in the hub's own formats, with all their parts.

They let the tests walk the very code path that loads the paper's models. Widths are 16-32, images 16 px.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLM_DIM = 32
TOKEN_DIM = 32
NUM_TOKENS = 12


def save_tiny_qwen2(folder: Path) -> Path:
    """Save a Qwen2 with a byte-level tokenizer (one token per byte) and Qwen's chat template; its embedding has spare rows."""
    torch.manual_seed(0)
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*alphabet, *specials])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )
    config = Qwen2Config(
        vocab_size=len(vocab) + 20,
        hidden_size=LLM_DIM,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=vocab["<|endoftext|>"],
        eos_token_id=vocab["<|im_end|>"],
        pad_token_id=vocab["<|endoftext|>"],
        initializer_range=0.2,  # the default's replies are one token repeated
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def save_tiny_stable_diffusion(folder: Path) -> Path:
    """Save a Stable Diffusion 1.5 folder: CLIP text encoder and tokenizer, U-Net, VAE, PNDM scheduler, feature extractor."""
    torch.manual_seed(0)
    tokenizer = save_clip_tokenizer(folder / "tokenizer_source")
    text_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TOKEN_DIM,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=NUM_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TOKEN_DIM,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text_config),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def save_tiny_ip_adapter(folder: Path, diffusion: Path, *, width: int = 10, num_tokens: int = 4) -> Path:
    """Save an IP-Adapter for a saved diffusion folder in the official layout: one safetensors file, and a CLIP image encoder beside it."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_pretrained(diffusion / "unet")
    tensors = {
        "image_proj.proj.weight": torch.randn(num_tokens * TOKEN_DIM, width),
        "image_proj.proj.bias": torch.zeros(num_tokens * TOKEN_DIM),
        "image_proj.norm.weight": torch.ones(TOKEN_DIM),
        "image_proj.norm.bias": torch.zeros(TOKEN_DIM),
    }
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    for place, layer in enumerate(layers):
        for name, linear in (("to_k_ip", layer.to_k), ("to_v_ip", layer.to_v)):
            tensors[f"ip_adapter.{2 * place + 1}.{name}.weight"] = torch.randn(linear.weight.shape)
    (folder / "models").mkdir(parents=True)
    save_file(tensors, folder / "models" / "ip-adapter_sd15.safetensors")
    vision = CLIPVisionConfig(
        hidden_size=12, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8, projection_dim=width
    )
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "models" / "image_encoder")
    return folder


def save_clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """Build CLIP's own kind of tokenizer over single letters, from vocabulary files."""
    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")  # no merges: one token per letter
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=NUM_TOKENS)
