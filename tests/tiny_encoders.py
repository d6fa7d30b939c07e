"""Save small, randomly initialised models in the formats of the hub: BLIP-2, two kinds of open_clip model, a ViT, a timm backbone.

They let the tests walk the very code path that loads the paper's models. Widths are 16-32, images 16 px.
"""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

WORDS = ("a", "an", "the", "photo", "of", "red", "blue", "green", "dog", "cat", "car", "on", "in", "with", "emoji", "sticker", "neon", "sky")
IMAGE_SIZE = 16
NUM_QUERIES = 4
CLIP_DIM = 24
TEXT_WIDTH = 32


def build_word_tokenizer(template: str, specials: list[str], **names: object) -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token per word; `template` places special tokens around the text `$A`."""
    vocab = {word: i for i, word in enumerate([*specials, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=specials[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[(name, vocab[name]) for name in specials])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def save_tiny_blip2(folder: Path, *, decoder: str = "opt") -> Path:
    """Save a BLIP-2 with its processor; `decoder` is opt (decoder-only, as in opt-2.7b) or t5 (encoder-decoder, as in flan-t5-xl)."""
    torch.manual_seed(0)
    specials = ["<unk>", "<pad>", "</s>", "<image>"]
    template = "</s> $A" if decoder == "opt" else "$A </s>"
    tokenizer = build_word_tokenizer(template, specials, unk_token="<unk>", pad_token="<pad>", eos_token="</s>", bos_token="</s>")
    tokenizer.add_tokens(["<image>"], special_tokens=True)  # is in the vocabulary already, and keeps its id
    vocab = {"vocab_size": len(tokenizer), "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
    if decoder == "opt":
        text = OPTConfig(**vocab, hidden_size=32, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2, word_embed_proj_dim=32)
    else:
        text = T5Config(**vocab, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=1)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=IMAGE_SIZE, patch_size=8
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, encoder_hidden_size=16, vocab_size=8
        ).to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=NUM_QUERIES,
        image_token_index=3,
    )
    model = Blip2ForConditionalGeneration(config)
    for name, parameter in model.named_parameters():  # at birth the queries are zero and every image gets the same caption
        if parameter.ndim > 1 or name == "query_tokens":
            torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():  # special tokens but the end get logit 0, so that they are never the most likely
        model.get_input_embeddings().weight[[0, 1, 3]] = 0
    model.save_pretrained(folder)
    image_processor = BlipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    Blip2Processor(image_processor, tokenizer, num_query_tokens=NUM_QUERIES).save_pretrained(folder)
    return folder


def save_open_clip_folder(folder: Path, model: torch.nn.Module, model_config: dict) -> Path:
    """Write weights and config as open_clip's own `save_for_hf` does."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), str(folder / "open_clip_model.safetensors"))
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": model_config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def describe_tiny_vision() -> dict:
    """Describe a one-layer image tower."""
    return {"image_size": IMAGE_SIZE, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}


def save_tiny_clip(folder: Path) -> Path:
    """Save a native CLIP (the architecture of ViT-L/14): own text tower, byte-pair vocabulary, projection matrix."""
    torch.manual_seed(1)
    model_config = {
        "embed_dim": CLIP_DIM,
        "vision_cfg": describe_tiny_vision(),
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": TEXT_WIDTH, "heads": 2, "layers": 1},
    }
    return save_open_clip_folder(folder, open_clip.CLIP(**model_config), model_config)


def save_tiny_hf_clip(folder: Path, *, projection: str = "linear", tower: str = ".") -> Path:
    """Save a CLIP whose text tower is a transformers BERT; `tower` is its place in the folder, written as a relative path."""
    torch.manual_seed(2)
    specials = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    tokenizer = build_word_tokenizer(
        "[CLS] $A [SEP]", specials, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=16
    )
    bert = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        pad_token_id=1,
    )
    BertModel(bert, add_pooling_layer=False).save_pretrained(folder / tower)
    tokenizer.save_pretrained(folder)
    text_config = {
        "hf_model_name": str(folder / tower),
        "hf_tokenizer_name": str(folder),
        "hf_model_pretrained": False,
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": projection,
        "context_length": 16,
    }
    model = open_clip.CustomTextCLIP(CLIP_DIM, describe_tiny_vision(), text_config)
    (folder / tower / "model.safetensors").unlink()  # the CLIP's own weights hold the tower
    relative = {**text_config, "hf_model_name": tower, "hf_tokenizer_name": tower}
    return save_open_clip_folder(folder, model, {"embed_dim": CLIP_DIM, "vision_cfg": describe_tiny_vision(), "text_cfg": relative})


def save_tiny_vit(folder: Path) -> Path:
    """Save a ViT with its pooler and image processor, in the format of vit-base-patch16-224-in21k."""
    torch.manual_seed(3)
    config = ViTConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=IMAGE_SIZE, patch_size=8)
    ViTModel(config).save_pretrained(folder)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    ViTImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    return folder


def save_tiny_backbone(folder: Path) -> Path:
    """Save an EfficientNet-Lite0 trunk as `embedded/perceptual` is; the smallest that timm has, 13 MB."""
    import timm

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(4)
    trunk = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False)
    save_file(trunk.state_dict(), str(folder / "model.safetensors"))
    config = {"architecture": "tf_efficientnet_lite0", "mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
