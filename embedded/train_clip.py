"""Train the image tower of the `open_clip` model against the frozen MiniLM text tower, on stickers and artists' drawings.

The text projection is the identity and stays it: MiniLM's own sentence space knows which things are alike, and a projection
trained to tell 300 concepts apart forgets that, and retrieval with it.

Run as `python -m embedded.train_clip` (half an hour on one core), with `--from-shipped` to go on from the shipped weights. Half of
every batch is of each kind. Every image is compared with a full bank of its kind's texts, in three questions at once: which
pair, which thing, which look (`embedded.clip_questions`). Held-out pairs give neither images nor candidate texts. Some images
have their colours changed at random and are asked for their thing only: what a thing looks like in a style that it was never
seen in is mostly other colours, and what was seen of its colours is no longer true.
"""

from dataclasses import dataclass, field, replace

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from embedded.artist_drawings import describe_all, load_artist_drawings
from embedded.clip_questions import Questions, TextBank, ask_of_drawings, ask_of_stickers, list_looks
from embedded.stickers import DEFAULT_UNIVERSE, flip_images, load_stickers, scale_images
from embedded.texts import MAX_TOKENS, TEXT_WIDTH, find_minilm_dir
from embedded.training import DEVICE, WEIGHTS_DIR, LoopConfig, move_tensors, parse_arguments, train_module, write_atomically
from embedded.visible_words import Words, compare_words
from pipeline.data.openmoji import STYLES
from pipeline.json_files import write_json


@dataclass(frozen=True)
class ClipConfig:
    """Shape and recipe of the image tower."""

    width: int = 256
    layers: int = 4
    head_width: int = 32
    patch_size: int = 16
    batch_size: int = 32  # images of each kind
    temperature: float = 0.05  # starting value, learnt
    recoloured: int = 10  # of these, images that have random colours
    copies_on_white: int = 2  # draws of a sticker in a style on white for one of any other
    look_weight: float = 1.0  # of the question which look
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000, peak_rate=1e-3, weight_decay=0.05, ema_decay=0.995, muon=True))


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


def augment_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift and scale each image a little and add grey noise; colours stay, for they are the style.

    Stickers are always drawn centred and upright: stronger changes only made learning several times slower.
    """
    count = len(images)
    device = images.device
    scale = 0.95 + 0.12 * torch.rand(count, generator=generator, device=device)
    shift = 0.12 * torch.rand(count, 2, generator=generator, device=device) - 0.06
    zero = torch.zeros(count, device=device)
    rows = [torch.stack([scale, zero, shift[:, 0]], 1), torch.stack([zero, scale, shift[:, 1]], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    noise = torch.randn((count, 1, *images.shape[2:]), generator=generator, device=device)
    return moved + noise * 0.05 * torch.rand((count, 1, 1, 1), generator=generator, device=device)


def recolour_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Map each image's colours by a random affine map, which may tint, grey or invert them."""
    mixing = 0.7 * torch.randn((len(images), 3, 3), generator=generator, device=images.device)
    offset = 0.4 * torch.randn((len(images), 3, 1, 1), generator=generator, device=images.device)
    return (torch.einsum("bcd,bdhw->bchw", mixing, images) + offset).clamp(-1, 1)


def draw_images(kind: Questions, config: ClipConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw augmented images, the first `config.recoloured` in random colours, and the answers asked of them."""
    chosen = kind.pool[torch.randint(len(kind.pool), (config.batch_size,), generator=generator, device=generator.device)]
    images = augment_images(scale_images(kind.images[chosen]), generator)
    if kind.mirrored:
        images = flip_images(images, generator)
    images[: config.recoloured] = recolour_images(images[: config.recoloured], generator)
    return images, kind.answers[chosen]


def compute_clip_loss(
    part: TrainedPart, images: Tensor, answers: Tensor, bank: TextBank, generator: torch.Generator, config: ClipConfig
) -> tuple[Tensor, Tensor]:
    """Sum of the three questions' cross-entropies, and the share of right pairs.

    The first `config.recoloured` images are asked for their thing only.
    """
    with torch.autocast(DEVICE.type, torch.bfloat16):
        image_BD = part.visual(images)
    image_BD = functional.normalize(image_BD.float(), dim=-1)
    scale = part.logit_scale.exp().clamp(max=100)

    def compare(texts: Tensor, start: int) -> Tensor:
        drawn = texts[torch.randint(len(texts), (), generator=generator, device=generator.device)]
        return scale * image_BD[start:] @ functional.normalize(part.text.proj(drawn), dim=-1).T

    own = answers[config.recoloured :]
    pair_logits = compare(bank.pairs, config.recoloured).masked_fill(~bank.allowed, -1e4)
    pair_loss = functional.cross_entropy(pair_logits, own[:, 0])
    name_loss = functional.cross_entropy(compare(bank.names, 0), answers[:, 1])
    look_loss = functional.cross_entropy(compare(bank.looks, config.recoloured), own[:, 2])
    accuracy = (pair_logits.argmax(1) == own[:, 0]).float().mean()
    return pair_loss + name_loss + config.look_weight * look_loss, accuracy


@torch.no_grad()
def encode_held_out(part: TrainedPart, kind: Questions) -> tuple[Tensor, Tensor]:
    """Encode the held-out images, normalised; also give their answers."""
    images = scale_images(kind.images[kind.held_out])
    image_BD = torch.cat([part.visual.eval()(batch) for batch in images.split(256)])
    part.visual.train()
    return functional.normalize(image_BD, dim=-1), kind.answers[kind.held_out]


@torch.no_grad()
def measure_stickers(part: TrainedPart, kind: Questions) -> dict[str, float]:
    """Held-out R@1 among all concepts of the same style, and zero-shot style accuracy, with canonical texts."""
    image_BD, answers = encode_held_out(part, kind)
    texts = functional.normalize(part.text.proj(kind.bank.pairs[0]), dim=-1).view(-1, len(STYLES), TEXT_WIDTH)
    scores = torch.einsum("bd,cbd->bc", image_BD, texts[:, answers[:, 2]])
    default = answers[:, 1] < DEFAULT_UNIVERSE
    right = (scores.argmax(1) == answers[:, 1]).float()
    styles = image_BD @ functional.normalize(part.text.proj(kind.bank.looks[1]), dim=-1).T
    return {
        "held_out_r1": right.mean().item(),
        "held_out_r1_default": right[default].mean().item(),
        "held_out_style": (styles.argmax(1) == answers[:, 2]).float().mean().item(),
    }


@torch.no_grad()
def measure_drawings(part: TrainedPart, kind: Questions, looks: list[Words]) -> dict[str, float]:
    """Held-out R@1 among all things' names, and which words of the nearest of all looks are right."""
    image_BD, answers = encode_held_out(part, kind)
    names, texts = (functional.normalize(part.text.proj(bank[1]), dim=-1) for bank in (kind.bank.names, kind.bank.looks))
    thing = ((image_BD @ names.T).argmax(1) == answers[:, 1]).float().mean().item()
    pairs = zip((image_BD @ texts.T).argmax(1).tolist(), answers[:, 2].tolist(), strict=True)
    right = [compare_words(looks[said], looks[seen]) for said, seen in pairs]
    words = {f"held_out_{key}_artists": sum(row[key] for row in right) / len(right) for key in right[0]}
    return {"held_out_thing_artists": thing, **words}


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
    batch_size = arguments.batch_size or base.batch_size
    config = replace(base, batch_size=batch_size, recoloured=round(base.recoloured * batch_size / base.batch_size), loop=arguments.loop)
    drawings = load_artist_drawings()
    words = describe_all(drawings)
    kinds = ask_of_stickers(load_stickers(), copies_on_white=config.copies_on_white), ask_of_drawings(drawings, words)
    moved = [move_tensors(kind) for kind in kinds]
    part = TrainedPart(build_clip(config))
    if arguments.from_shipped:
        part.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS_DIR / "clip" / "trained.safetensors").items()})

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        batches = [draw_images(kind, config, generator) for kind in moved]
        losses = [compute_clip_loss(part, *batch, kind.bank, generator, config) for kind, batch in zip(moved, batches, strict=True)]
        (stickers, pair), (artists, pair_artists) = losses
        return (stickers + artists) / 2, {"pair": pair, "pair_artists": pair_artists}

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        export_clip(state, config)
        measured = TrainedPart(build_clip(config))
        measured.load_state_dict(state)
        return measure_stickers(measured, kinds[0]) | measure_drawings(measured, kinds[1], list_looks(words))

    train_module("clip", part, config.loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=arguments.from_shipped)


if __name__ == "__main__":
    main()
