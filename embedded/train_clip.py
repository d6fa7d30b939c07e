"""Train the image tower of the `open_clip` model against the frozen MiniLM text tower.

The text projection is the identity and stays it: MiniLM's own sentence space knows which things are alike, and a projection
trained to tell 300 concepts apart forgets that, and retrieval with it.

Run as `python -m embedded.train_clip` (half an hour on one core). Every image is compared with a full bank of texts,
in three questions at once: which pair (any paraphrase of any training pair), which concept (style-free texts), which style
(concept-free texts). Held-out pairs give neither images nor candidate texts. Some images have their colours changed at random
and are asked for their concept only: what a thing looks like in a style that it was never seen in is mostly other colours.
"""

from dataclasses import dataclass, field, replace

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from embedded.stickers import DEFAULT_UNIVERSE, Stickers, load_stickers, number_pairs, scale_images
from embedded.texts import MAX_TOKENS, TEXT_WIDTH, encode_pooled, find_minilm_dir, list_name_texts, list_pair_texts, list_style_texts
from embedded.training import WEIGHTS_DIR, LoopConfig, parse_arguments, train_module, write_atomically
from pipeline.data.openmoji import STYLES
from pipeline.json_files import write_json


@dataclass(frozen=True)
class ClipConfig:
    """Shape and recipe of the image tower."""

    width: int = 256
    layers: int = 4
    head_width: int = 32
    patch_size: int = 16
    batch_size: int = 64
    temperature: float = 0.05  # starting value, learnt
    recoloured: int = 20  # images of a batch that have random colours
    copies_on_white: int = 2  # draws of a pair in a style on white for one of any other
    style_weight: float = 1.0  # of the question which style
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000, peak_rate=1e-3, weight_decay=0.05, ema_decay=0.995, muon=True))


@dataclass(frozen=True)
class TextBank:
    """Pooled MiniLM features of all texts: (paraphrase, concept[, style], 384)."""

    pairs: Tensor
    names: Tensor
    styles: Tensor


def build_model_config(config: ClipConfig, text_tower: str) -> dict:
    """Describe the model as `open_clip_config.json` does; `text_tower` is a folder with MiniLM's config and tokenizer."""
    return {
        "embed_dim": TEXT_WIDTH,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 64,
            "patch_size": config.patch_size,
            "width": config.width,
            "layers": config.layers,
            "head_width": config.head_width,
            "no_ln_pre": True,
        },
        "text_cfg": {
            "hf_model_name": text_tower,
            "hf_tokenizer_name": text_tower,
            "hf_model_pretrained": False,
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
            "context_length": MAX_TOKENS,
        },
    }


def build_clip(config: ClipConfig) -> nn.Module:
    """Build the model with an untrained image tower and projection; the text tower holds no trained weights yet."""
    import open_clip

    shape = build_model_config(config, str(find_minilm_dir()))
    model = open_clip.CustomTextCLIP(shape["embed_dim"], shape["vision_cfg"], shape["text_cfg"])
    nn.init.eye_(model.text.proj.weight)
    nn.init.constant_(model.logit_scale, -torch.tensor(config.temperature).log().item())
    for parameter in model.text.parameters():
        parameter.requires_grad = False
    return model


class TrainedPart(nn.Module):
    """What is trained and shipped: image tower, text projection, temperature."""

    def __init__(self, clip: nn.Module) -> None:
        """Share the parameters of a full model under their names in it."""
        super().__init__()
        self.visual = clip.visual
        self.text = nn.Module()
        self.text.proj = clip.text.proj
        self.logit_scale = clip.logit_scale


def build_text_bank(stickers: Stickers) -> TextBank:
    """Encode all texts once."""
    names = [concept.name for concept in stickers.concepts]

    def encode(grid: list[list[str]]) -> Tensor:
        texts = [text for paraphrases in grid for text in paraphrases]
        return encode_pooled(texts).view(len(grid), len(grid[0]), TEXT_WIDTH).transpose(0, 1)

    pairs = encode([list_pair_texts(name, style) for name in names for style in STYLES])
    return TextBank(
        pairs=pairs.reshape(len(pairs), len(names), len(STYLES), TEXT_WIDTH),
        names=encode([list_name_texts(name) for name in names]),
        styles=encode([list_style_texts(style) for style in STYLES]),
    )


def augment_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift and scale each image a little and add grey noise; colours stay, for they are the style.

    Stickers are always drawn centred and upright: stronger changes only made learning several times slower.
    """
    count = len(images)
    scale = 0.95 + 0.12 * torch.rand(count, generator=generator)
    shift = 0.12 * torch.rand(count, 2, generator=generator) - 0.06
    zero = torch.zeros(count)
    rows = [torch.stack([scale, zero, shift[:, 0]], 1), torch.stack([zero, scale, shift[:, 1]], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    noise = torch.randn((count, 1, *images.shape[2:]), generator=generator)
    return moved + noise * 0.05 * torch.rand((count, 1, 1, 1), generator=generator)


def recolour_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Map each image's colours by a random affine map, which may tint, grey or invert them."""
    mixing = 0.7 * torch.randn((len(images), 3, 3), generator=generator)
    offset = 0.4 * torch.randn((len(images), 3, 1, 1), generator=generator)
    return (torch.einsum("bcd,bdhw->bchw", mixing, images) + offset).clamp(-1, 1)


def compute_clip_loss(
    part: TrainedPart, images: Tensor, rows: Tensor, bank: TextBank, allowed: Tensor, generator: torch.Generator, config: ClipConfig
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropies of the three questions; `allowed` (concept, style) marks the pairs whose texts are candidates.

    The first `config.recoloured` images are asked for their concept only.
    """
    with torch.autocast("cpu", torch.bfloat16):
        image_BD = part.visual(images)
    image_BD = functional.normalize(image_BD.float(), dim=-1)
    scale = part.logit_scale.exp().clamp(max=100)

    def project(texts: Tensor) -> Tensor:
        drawn = texts[torch.randint(len(texts), (1,), generator=generator).item()]
        return functional.normalize(part.text.proj(drawn.flatten(0, -2)), dim=-1)

    pair_logits = scale * image_BD @ project(bank.pairs).T
    pair_logits = pair_logits.masked_fill(~allowed.flatten(), -1e4)
    name_logits = scale * image_BD @ project(bank.names).T
    style_logits = scale * image_BD @ project(bank.styles).T
    targets = rows[:, 0] * len(STYLES) + rows[:, 1]
    pair_logits, style_logits, targets = (values[config.recoloured :] for values in (pair_logits, style_logits, targets))
    pair_loss = functional.cross_entropy(pair_logits, targets)
    name_loss = functional.cross_entropy(name_logits, rows[:, 0])
    style_loss = functional.cross_entropy(style_logits, rows[config.recoloured :, 1])
    accuracy = (pair_logits.argmax(1) == targets).float().mean().item()
    return pair_loss + name_loss + config.style_weight * style_loss, {"pair": accuracy}


@torch.no_grad()
def measure_held_out(part: TrainedPart, stickers: Stickers, bank: TextBank) -> dict[str, float]:
    """Held-out R@1 among all concepts of the same style, and zero-shot style accuracy, with canonical texts."""
    rows = stickers.list_pairs(held_out=True)
    images = scale_images(stickers.images[rows[:, 0], rows[:, 1]])
    image_BD = functional.normalize(part.visual.eval()(images), dim=-1)
    part.visual.train()
    texts = functional.normalize(part.text.proj(bank.pairs[0]), dim=-1)
    scores = torch.einsum("bd,cbd->bc", image_BD, texts[:, rows[:, 1]])
    default = rows[:, 0] < DEFAULT_UNIVERSE
    right = (scores.argmax(1) == rows[:, 0]).float()
    styles = image_BD @ functional.normalize(part.text.proj(bank.styles[1]), dim=-1).T
    return {
        "held_out_r1": right.mean().item(),
        "held_out_r1_default": right[default].mean().item(),
        "held_out_style": (styles.argmax(1) == rows[:, 1]).float().mean().item(),
    }


def export_clip(state: dict[str, Tensor], config: ClipConfig) -> None:
    """Write the shipped folder: everything but MiniLM, which is added when the folder is assembled."""
    folder = WEIGHTS_DIR / "clip"
    model_config = build_model_config(config, "MINILM")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    write_json(folder / "open_clip_config.json", {"model_cfg": model_config, "preprocess_cfg": preprocess})
    halves = {name: value.half().contiguous() for name, value in state.items()}
    write_atomically(folder / "trained.safetensors", lambda path: save_file(halves, str(path)))


def main() -> None:
    """Train, resume or finish."""
    base = ClipConfig()
    arguments = parse_arguments(__doc__, base.loop)
    torch.manual_seed(0)
    config = replace(base, loop=arguments.loop)
    stickers = load_stickers()
    bank = build_text_bank(stickers)
    pairs = stickers.list_pairs(held_out=False)
    pool = pairs[number_pairs(pairs, copies_on_white=config.copies_on_white)]
    part = TrainedPart(build_clip(config))
    if arguments.from_shipped:
        part.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS_DIR / "clip" / "trained.safetensors").items()})

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = pool[torch.randint(len(pool), (config.batch_size,), generator=generator)]
        images = augment_images(scale_images(stickers.images[rows[:, 0], rows[:, 1]]), generator)
        images[: config.recoloured] = recolour_images(images[: config.recoloured], generator)
        return compute_clip_loss(part, images, rows, bank, ~stickers.held_out, generator, config)

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        export_clip(state, config)
        measured = TrainedPart(build_clip(config))
        measured.load_state_dict(state)
        return measure_held_out(measured, stickers, bank)

    train_module("clip", part, config.loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=arguments.from_shipped)


if __name__ == "__main__":
    main()
