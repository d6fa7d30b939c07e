"""Save models of the published size with random weights, in the hub's own layouts: what the paper's profile loads, without a download.

What cannot be made up are vocabularies: BLIP-2 knows a few words, which it only writes; the language model reads by the tokenizer of the embedded
one, whose tokens are about as long as Qwen's, and has Qwen's number of rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import open_clip
import torch

from pipeline.models.folders import resolve_model
from tests.full_models import save_full_stable_diffusion
from tests.tiny_encoders import build_word_tokenizer, save_open_clip_folder

NUM_QUERIES = 32
NUM_CLIP_PARAMETERS, NUM_QWEN_PARAMETERS = 427_616_513, 7_615_616_512  # the published models'
CLIP_CONFIG = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49_408, "width": 768, "heads": 12, "layers": 12},
}


@contextlib.contextmanager
def born_on(device: torch.device) -> Iterator[None]:
    """Make parameters on a device, in bfloat16."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def build_blip2() -> torch.nn.Module:
    """Build BLIP-2 opt-2.7b: 3.7 billion parameters."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig

    opt = OPTConfig(vocab_size=50_304, hidden_size=2560, ffn_dim=10_240, num_hidden_layers=32, num_attention_heads=32, word_embed_proj_dim=2560)
    # the defaults of the two other parts are those of the published model
    return Blip2ForConditionalGeneration(Blip2Config(text_config=opt.to_dict(), num_query_tokens=NUM_QUERIES, image_token_index=3))


def build_clip() -> torch.nn.Module:
    """Build CLIP ViT-L/14: 428 million parameters."""
    return open_clip.CLIP(**CLIP_CONFIG)


def build_qwen() -> torch.nn.Module:
    """Build Qwen2.5-7B: 7.6 billion parameters."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=152_064, max_position_embeddings=32_768, tie_word_embeddings=False, **sizes))


def save_captioner(folder: Path, device: torch.device) -> Path:
    """Save BLIP-2 with its processor."""
    from transformers import Blip2Processor, BlipImageProcessor

    specials = ["<unk>", "<pad>", "</s>", "<image>"]
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>", "bos_token": "</s>"}
    tokenizer = build_word_tokenizer("</s> $A", specials, **names)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    with born_on(device):
        build_blip2().save_pretrained(folder)
    Blip2Processor(BlipImageProcessor(size={"height": 224, "width": 224}), tokenizer, num_query_tokens=NUM_QUERIES).save_pretrained(folder)
    return folder


def save_clip(folder: Path, device: torch.device) -> Path:
    """Save CLIP in open_clip's layout."""
    torch.manual_seed(1)
    with device:
        model = build_clip()
    return save_open_clip_folder(folder, model.cpu(), CLIP_CONFIG)


def save_language_model(folder: Path, device: torch.device) -> Path:
    """Save Qwen2.5-7B with a tokenizer that has a chat template."""
    from transformers import AutoTokenizer

    with born_on(device):
        build_qwen().save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve_model("embedded/language_model")).save_pretrained(folder)
    return folder


def save_diffusion(folder: Path, device: torch.device) -> Path:
    """Save Stable Diffusion 1.5."""
    return save_full_stable_diffusion(folder)


SAVERS = {"captioner": save_captioner, "clip": save_clip, "language_model": save_language_model, "diffusion": save_diffusion}
