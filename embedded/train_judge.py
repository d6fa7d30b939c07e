"""Train the judges: style and concept classifiers that nothing else in the method uses, one for stickers, one for artists' drawings.

Run as `python -m embedded.train_judge` or `python -m embedded.train_judge --artists` (a quarter of an hour, or half of one, on one core). A plain CNN
(`pipeline.models.judge`), trained on its own with augmentation that is stronger than what a drawing model gets wrong: shift, scale, blur, noise.
The artists' judge has convolutions of its own for the hand, which `--style-only` trains alone.
"""

import sys
from dataclasses import asdict, dataclass, field, replace

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from embedded.artist_drawings import ArtistDrawings, load_artist_drawings
from embedded.stickers import Stickers, flip_images, load_stickers, number_pairs, scale_images
from embedded.train_clip import augment_images
from embedded.training import DEVICE, WEIGHTS_DIR, LoopConfig, move_tensors, parse_arguments, train_module, write_atomically
from pipeline.json_files import write_json
from pipeline.models.judge import JudgeConfig, JudgeNetwork


@dataclass(frozen=True)
class JudgeRecipe:
    """How the judge is trained."""

    width: int = 32
    style_blocks: int = 0  # of the style's own convolutions
    batch_size: int = 64
    copies_on_white: int = 2  # draws of a pair in a style on white for one of any other
    style_weight: float = 1.0  # of the style's cross-entropy beside the concept's
    blur_share: float = 0.3  # of the images that are halved and enlarged again, as a soft drawing would look
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000, peak_rate=3e-3, weight_decay=0.05, ema_decay=0.99, muon=True))


STICKERS, ARTISTS = JudgeRecipe(), JudgeRecipe(width=40, copies_on_white=1, style_blocks=3)


def soften_images(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Blur a share of the images and shift the brightness of all a little."""
    small = functional.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    soft = functional.interpolate(small, images.shape[2:], mode="bilinear")
    chosen = torch.rand(len(images), generator=generator, device=images.device) < share
    mixed = torch.where(chosen[:, None, None, None], soft, images)
    gain = 1 + 0.1 * torch.randn((len(images), 1, 1, 1), generator=generator, device=images.device)
    return (mixed * gain + 0.05 * torch.randn((len(images), 3, 1, 1), generator=generator, device=images.device)).clamp(-1, 1)


def compute_judge_loss(network: JudgeNetwork, images: Tensor, rows: Tensor, style_weight: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of both cross-entropies, labels smoothed."""
    with torch.autocast(DEVICE.type, torch.bfloat16):
        style, concept = network(images)
    concept_loss = functional.cross_entropy(concept.float(), rows[:, 0], label_smoothing=0.05)
    style_loss = functional.cross_entropy(style.float(), rows[:, 1], label_smoothing=0.05)
    accuracy = (concept.argmax(1) == rows[:, 0]).float().mean()
    return concept_loss + style_weight * style_loss, {"concept": accuracy}


@torch.no_grad()
def measure_pairs(network: JudgeNetwork, images_u8: Tensor, rows: Tensor, *, num_concepts: int | None = None) -> tuple[Tensor, Tensor]:
    """Say of each image whether its style is right, and at which rank (from 0) its concept comes, of the first `num_concepts`."""
    outputs = [network(scale_images(batch)) for batch in images_u8.split(64)]
    style, concept = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    concept = concept[:, :num_concepts]
    truth = concept.gather(1, rows[:, :1])
    return style.argmax(1) == rows[:, 1], (concept > truth).sum(1)


def measure_judge(network: JudgeNetwork, kind: Stickers | ArtistDrawings, rows: Tensor) -> dict[str, float]:
    """Accuracy of both heads on real renders."""
    style, ranks = measure_pairs(network, kind.images[rows[:, 0], rows[:, 1]], rows)
    shares = {"held_out_style": style, "held_out_concept": ranks == 0, "held_out_concept_top5": ranks < 5}
    return {name: share.float().mean().item() for name, share in shares.items()}


def load_what_fits(network: JudgeNetwork, weights: dict[str, Tensor]) -> None:
    """Take over all weights but those of heads for another number of concepts."""
    own = network.state_dict()
    network.load_state_dict({name: weights[name] if name in weights and weights[name].shape == value.shape else value for name, value in own.items()})


def export_judge(name: str, state: dict[str, Tensor], config: JudgeConfig) -> None:
    """Write the shipped folder."""
    folder = WEIGHTS_DIR / name
    write_json(folder / "config.json", asdict(config))
    halves = {name: value.half().contiguous() if value.is_floating_point() else value for name, value in state.items()}
    write_atomically(folder / "model.safetensors", lambda path: save_file(halves, str(path)))


def main() -> None:
    """Train, resume or finish."""
    artists = "--artists" in sys.argv
    base, name = (ARTISTS, "artist_judge") if artists else (STICKERS, "judge")
    flags = {"--artists": "the judge of artists' drawings", "--style-only": "the style's own convolutions, the others as they are shipped"}
    arguments = parse_arguments(__doc__, base.loop, flags=flags)
    torch.manual_seed(7)
    recipe = replace(base, batch_size=arguments.batch_size or base.batch_size, loop=replace(arguments.loop, seed=7))
    kind = load_artist_drawings() if artists else load_stickers()
    config = JudgeConfig(styles=kind.looks, concepts=kind.names, image_size=64, width=recipe.width, style_blocks=recipe.style_blocks)
    network = JudgeNetwork(config)
    if arguments.from_shipped:
        load_what_fits(network, load_file(WEIGHTS_DIR / name / "model.safetensors"))
    for part, parameter in network.named_parameters():
        parameter.requires_grad_(not arguments.style_only or part.startswith("style"))
    pairs, held = kind.list_pairs(held_out=False), kind.list_pairs(held_out=True)

    pool = move_tensors(pairs if artists else pairs[number_pairs(pairs, copies_on_white=recipe.copies_on_white)])
    moved = move_tensors(kind)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        rows = pool[torch.randint(len(pool), (recipe.batch_size,), generator=generator, device=DEVICE)]
        images = augment_images(scale_images(moved.images[rows[:, 0], rows[:, 1]]), generator)
        if artists:  # so few drawings of each thing are learnt by heart otherwise
            images = flip_images(images, generator)
        return compute_judge_loss(network.train(), soften_images(images, recipe.blur_share, generator), rows, recipe.style_weight)

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        export_judge(name, state, config)
        measured = JudgeNetwork(config).eval()
        measured.load_state_dict(state)
        return measure_judge(measured, kind, held)

    train_module(name, network, recipe.loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=arguments.from_shipped)


if __name__ == "__main__":
    main()
