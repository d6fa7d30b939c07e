"""Train the captioner: a small `Blip2ForConditionalGeneration` that says "a neon sticker of a hedgehog".

Run as `python -m embedded.train_captioner` after `train_clip` (half an hour on one core). Its vision tower is the CLIP image
tower, converted exactly and frozen, so its features are computed once; Q-Former and a tiny OPT with a word-level tokenizer of
our own are trained on them. Images with random colours teach the words after the style, given any style's word.
"""

from dataclasses import dataclass, field, replace

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from embedded.stickers import Stickers, describe_pair, load_stickers, number_pairs, scale_images
from embedded.train_clip import ClipConfig, augment_images, recolour_images
from embedded.training import WEIGHTS_DIR, LoopConfig, parse_arguments, train_module
from pipeline.data.openmoji import STYLES
from pipeline.json_files import read_json, write_json

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
PAD, BEGIN, END, UNKNOWN, IMAGE = range(len(SPECIAL_TOKENS))
STYLE_PLACE = 2  # of the style's word in a caption's tokens, after the begin token and the article


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
    batch_size: int = 64
    copies_on_white: int = 2  # draws of a pair in a style on white for one of any other
    dropout: float = 0.1
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=5000, peak_rate=1e-3, weight_decay=0.05, ema_decay=0.995, muon=True))


def list_words(stickers: Stickers) -> list[str]:
    """List the words of all captions, sorted."""
    captions = (describe_pair(concept.name, style) for concept in stickers.concepts for style in STYLES)
    return sorted({word for caption in captions for word in caption.split()})


def build_processor(stickers: Stickers, config: CaptionerConfig) -> object:
    """Build a Blip2Processor: 64 px images in [-1, 1] and the word-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import Blip2Processor, BlipImageProcessor, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate([*SPECIAL_TOKENS, *list_words(stickers)])}
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


@torch.no_grad()
def compute_views(model: nn.Module, images_u8: Tensor, config: CaptionerConfig, generator: torch.Generator) -> Tensor:
    """Give float16 vision features (image, view, token, width): the plain image, augmented ones, then recoloured ones."""
    columns = []
    for view in range(config.views + config.recoloured_views):
        batches = []
        for batch in images_u8.split(64):
            images = scale_images(batch)
            images = images if view == 0 else augment_images(images, generator)
            images = images if view < config.views else recolour_images(images, generator)
            batches.append(model.vision_model(images).last_hidden_state.half())
        columns.append(torch.cat(batches))
    return torch.stack(columns, dim=1)


def compute_caption_loss(model: nn.Module, features: Tensor, tokens: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Next-word cross-entropy of `targets` (padding is not asked for) given vision features and the caption's tokens so far."""
    queries = model.query_tokens.expand(len(features), -1, -1)
    attended = model.qformer(query_embeds=queries, encoder_hidden_states=features, return_dict=True).last_hidden_state
    words = model.get_input_embeddings()(tokens[:, :-1])
    prefix = model.language_projection(attended)
    mask = torch.cat([torch.ones(prefix.shape[:2], dtype=torch.long), (tokens[:, :-1] != PAD).long()], dim=1)
    logits = model.language_model(inputs_embeds=torch.cat([prefix, words], dim=1), attention_mask=mask).logits
    predicted = logits[:, prefix.shape[1] :]
    loss = functional.cross_entropy(predicted.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=PAD)
    right = (predicted.argmax(-1) == targets[:, 1:]) | (targets[:, 1:] == PAD)
    return loss, {"exact": right.all(dim=1).float().mean().item()}


def hide_styles(tokens: Tensor, hidden: Tensor, style_words: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give captions and targets in which the rows marked in `hidden` name any style and are not asked for it."""
    drawn = style_words[torch.randint(len(style_words), (len(tokens),), generator=generator)]
    captions, targets = tokens.clone(), tokens.clone()
    captions[hidden, STYLE_PLACE] = drawn[hidden]
    targets[hidden, : STYLE_PLACE + 1] = PAD
    return captions, targets


def tokenize_captions(processor: object, stickers: Stickers, rows: Tensor) -> Tensor:
    """Give padded token rows with begin and end for (concept, style) rows."""
    captions = [describe_pair(stickers.concepts[concept].name, STYLES[style]) + " </s>" for concept, style in rows.tolist()]
    return processor.tokenizer(captions, padding=True, return_tensors="pt")["input_ids"]


@torch.no_grad()
def measure_captions(model: nn.Module, processor: object, stickers: Stickers, rows: Tensor) -> dict[str, float]:
    """Share of captions with the right style word and with exactly the right concept."""
    captions = write_captions(model, processor, stickers.images[rows[:, 0], rows[:, 1]])
    truths = [(stickers.concepts[concept].name, STYLES[style]) for concept, style in rows.tolist()]
    styles = [style in caption.split() for caption, (_, style) in zip(captions, truths, strict=True)]
    concepts = [read_concept(caption) == name for caption, (name, _) in zip(captions, truths, strict=True)]
    return {"held_out_style": sum(styles) / len(styles), "held_out_concept": sum(concepts) / len(concepts)}


def write_captions(model: nn.Module, processor: object, images_u8: Tensor) -> list[str]:
    """Caption uint8 images (B, 3, H, W) as the pipeline does."""
    captions = []
    for batch in images_u8.split(128):
        inputs = processor(images=[image.permute(1, 2, 0).numpy() for image in batch], return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        captions += [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]
    return captions


def read_concept(caption: str) -> str:
    """Take the words after "sticker of a"."""
    rest = caption.partition(" sticker of ")[2]
    return rest.partition(" ")[2]


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


def main() -> None:
    """Train, resume or finish."""
    base = CaptionerConfig()
    arguments = parse_arguments(__doc__, base.loop)
    torch.manual_seed(0)
    config = replace(base, loop=arguments.loop)
    stickers = load_stickers()
    processor = build_processor(stickers, config)
    model = build_captioner(config, ClipConfig(), len(processor.tokenizer))
    if arguments.from_shipped:
        model.load_state_dict(type(model).from_pretrained(WEIGHTS_DIR / "captioner", dtype=torch.float32).state_dict())
    model.vision_model.load_state_dict(convert_vision_tower(read_visual_state()))
    model.vision_model.requires_grad_(False)
    pairs = stickers.list_pairs(held_out=False)
    held = stickers.list_pairs(held_out=True)
    views = compute_views(model, stickers.images[pairs[:, 0], pairs[:, 1]], config, torch.Generator().manual_seed(1))
    tokens = tokenize_captions(processor, stickers, pairs)
    pool = number_pairs(pairs, copies_on_white=config.copies_on_white)
    style_words = torch.tensor(processor.tokenizer.convert_tokens_to_ids(list(STYLES)))

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        chosen = pool[torch.randint(len(pool), (config.batch_size,), generator=generator)]
        view = torch.randint(views.shape[1], (config.batch_size,), generator=generator)
        captions, targets = hide_styles(tokens[chosen], view >= config.views, style_words, generator)
        return compute_caption_loss(model.train(), views[chosen, view].float(), captions, targets)

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        export_captioner(state, build_captioner(config, ClipConfig(), len(processor.tokenizer)), processor)
        measured = build_captioner(config, ClipConfig(), len(processor.tokenizer)).eval()
        measured.load_state_dict(state)
        return measure_captions(measured, processor, stickers, held)

    train_module("captioner", model, config.loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=arguments.from_shipped)


if __name__ == "__main__":
    main()
