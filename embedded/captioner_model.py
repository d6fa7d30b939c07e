"""The captioner: a small `Blip2ForConditionalGeneration` with a word-level tokenizer; its vision tower is a CLIP image tower, converted exactly."""

from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from embedded.train_clip import ClipConfig
from embedded.training import WEIGHTS_DIR, LoopConfig
from pipeline.json_files import read_json, write_json

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
PAD, BEGIN, END, UNKNOWN, IMAGE = range(len(SPECIAL_TOKENS))


@dataclass(frozen=True)
class CaptionerConfig:
    """Shape and recipe of what follows the vision tower."""

    width: int = 192
    heads: int = 6
    qformer_layers: int = 2
    text_layers: int = 3
    num_queries: int = 8
    views: int = 5  # augmented features kept of each image in its own colours
    recoloured_views: int = 4  # and in random colours
    batch_size: int = 32  # images of each kind
    copies_on_white: int = 2  # draws of a sticker in a style on white for one of any other
    dropout: float = 0.1
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=5000, peak_rate=1e-3, weight_decay=0.05, ema_decay=0.995, muon=True))


def build_processor(words: list[str], config: CaptionerConfig) -> object:
    """Build a Blip2Processor: 64 px images in [-1, 1] and the word-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import Blip2Processor, BlipImageProcessor, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate([*SPECIAL_TOKENS, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    images = BlipImageProcessor(size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return Blip2Processor(images, wrapped, num_query_tokens=config.num_queries)


def build_captioner(config: CaptionerConfig, clip: ClipConfig, vocabulary_size: int) -> nn.Module:
    """Build an untrained model of the hub's class."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig

    vision = {
        "hidden_size": clip.width,
        "intermediate_size": 4 * clip.width,
        "num_hidden_layers": clip.layers,
        "num_attention_heads": clip.width // clip.head_width,
        "image_size": 64,
        "patch_size": clip.patch_size,
        "layer_norm_eps": 1e-5,
    }
    qformer = {
        "vocab_size": 1,
        "hidden_size": config.width,
        "num_hidden_layers": config.qformer_layers,
        "num_attention_heads": config.heads,
        "intermediate_size": 2 * config.width,
        "cross_attention_frequency": 1,
        "encoder_hidden_size": clip.width,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
    }
    text = OPTConfig(
        vocab_size=vocabulary_size,
        hidden_size=config.width,
        num_hidden_layers=config.text_layers,
        ffn_dim=2 * config.width,
        num_attention_heads=config.heads,
        max_position_embeddings=64,
        word_embed_proj_dim=config.width,
        dropout=config.dropout,
        pad_token_id=PAD,
        bos_token_id=BEGIN,
        eos_token_id=END,
    )
    shape = Blip2Config(
        vision_config=vision,
        qformer_config=qformer,
        text_config=text.to_dict(),
        num_query_tokens=config.num_queries,
        image_token_index=IMAGE,
    )
    model = Blip2ForConditionalGeneration(shape)
    nn.init.normal_(model.query_tokens, std=0.5)  # the class starts them at zero, where they never part
    return model


def convert_vision_tower(visual: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename open_clip's image tower for Blip2VisionModel. Exact: keys need no bias, and our tower has no first norm."""
    width = visual["class_embedding"].shape[0]
    state = {
        "embeddings.class_embedding": visual["class_embedding"].view(1, 1, width),
        "embeddings.position_embedding": visual["positional_embedding"].unsqueeze(0),
        "embeddings.patch_embedding.weight": visual["conv1.weight"],
        "embeddings.patch_embedding.bias": torch.zeros(width),
        "post_layernorm.weight": visual["ln_post.weight"],
        "post_layernorm.bias": visual["ln_post.bias"],
    }
    renamed = {
        "attn.in_proj_": "self_attn.qkv.",
        "attn.out_proj.": "self_attn.projection.",
        "ln_1.": "layer_norm1.",
        "ln_2.": "layer_norm2.",
        "mlp.c_fc.": "mlp.fc1.",
        "mlp.c_proj.": "mlp.fc2.",
    }
    for name, value in visual.items():
        if name.startswith("transformer.resblocks."):
            layer, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
            old = next(prefix for prefix in renamed if rest.startswith(prefix))
            state[f"encoder.layers.{layer}.{renamed[old]}{rest.removeprefix(old)}"] = value
    return {name: value.float() for name, value in state.items()}


def read_visual_state() -> dict[str, Tensor]:
    """Read the shipped CLIP image tower."""
    state = load_file(WEIGHTS_DIR / "clip" / "trained.safetensors")
    return {name.removeprefix("visual."): value.float() for name, value in state.items() if name.startswith("visual.")}


def load_shipped(model: nn.Module, processor: object) -> None:
    """Take over the shipped weights; rows of words go to their new numbers, and words that are new keep theirs."""
    from transformers import AutoTokenizer

    folder = WEIGHTS_DIR / "captioner"
    shipped = type(model).from_pretrained(folder, dtype=torch.float32).state_dict()
    old, new = AutoTokenizer.from_pretrained(folder).get_vocab(), processor.tokenizer.get_vocab()
    shared = [word for word in new if word in old]
    old_rows, new_rows = (torch.tensor([vocabulary[word] for word in shared]) for vocabulary in (old, new))
    state = model.state_dict()
    for name, value in shipped.items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            state[name] = state[name].clone()
            state[name][new_rows] = value[old_rows]
        else:
            state[name] = value
    model.load_state_dict(state)


def export_captioner(state: dict[str, Tensor], model: nn.Module, processor: object) -> None:
    """Write the shipped folder: float16 numbers that load as float32."""
    model.load_state_dict(state)
    folder = WEIGHTS_DIR / "captioner"
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    path = folder / "config.json"
    settings = read_json(path)
    set_dtype(settings, "float32")
    write_json(path, settings)


def set_dtype(settings: dict, dtype: str) -> None:
    """Name the number type that a configuration and its parts load as."""
    for key in list(settings):
        if isinstance(settings[key], dict):
            set_dtype(settings[key], dtype)
        elif key in ("dtype", "torch_dtype"):
            settings[key] = dtype
