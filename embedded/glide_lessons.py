"""What the small GLIDE learns and how: its shapes and recipe, its lessons, its loss, and that loss on held-out pairs."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedded.examples import Examples, describe_example
from embedded.stickers import scale_images
from embedded.texts import list_name_texts
from embedded.training import LoopConfig
from pipeline.data.openmoji import STYLES
from pipeline.models.glide.sampling import NUM_TIMESTEPS, compute_alphas, round_to_8_bits
from pipeline.models.glide.shape import GlideShape, GlideShapes
from pipeline.models.glide.text import TextStates
from pipeline.models.glide.tokens import GlideTokenizer
from pipeline.models.glide.unet import GlideUnet


@dataclass(frozen=True)
class GlideRecipe:
    """Shapes and recipe of both models."""

    base_channels: int = 64
    upsample_channels: int = 32
    text_tokens: int = 32
    text_width: int = 192
    base_text_layers: int = 4
    upsample_text_layers: int = 2
    vocabulary: int = 1500  # tokens at most
    drop_share: float = 0.2  # of the rows have no text, for guidance (GLIDE)
    name_share: float = 0.2  # of the rows have the thing's name alone, as a reference's title has
    outline_copies: int = 3  # draws of a pair in the outline style, the only one without fills, for one in any other style
    max_snr: float = 5.0  # steps of less noise count less, as in min-SNR
    least_alpha: float = 0.02  # steps of more noise than this leaves are not made up for in full
    text_steps: int = 300  # at first, in which the text side alone learns
    naming_weight: float = 0.001
    low_res_noise: float = 0.1  # at most; of the small pictures, which the base model will not draw perfectly
    tint: float = 0.5  # at most; of the upsampler's noise, on the small picture's grid and over the whole picture
    batch_size: int = 64
    upsample_batch_size: int = 16  # of 16 times as many pixels
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=4000, peak_rate=1e-3, warmup_steps=150, ema_decay=0.998, checkpoint_seconds=300, muon=True)
    )

    def build_shapes(self, vocabulary: int) -> GlideShapes:
        """Return both models' shapes for a tokenizer of this size."""
        text = {"text_tokens": self.text_tokens, "text_width": self.text_width, "text_heads": 4, "vocabulary": vocabulary}
        common = {**text, "multipliers": (1, 2, 2), "num_res_blocks": 1, "head_channels": 32, "dropout": 0.0}
        base = GlideShape(
            image_size=16,
            low_res_size=0,
            channels=self.base_channels,
            attention_sizes=(8, 4),
            schedule="squaredcos_cap_v2",
            text_layers=self.base_text_layers,
            **common,
        )
        upsampler = GlideShape(
            image_size=64,
            low_res_size=16,
            channels=self.upsample_channels,
            attention_sizes=(16,),
            schedule="linear",
            text_layers=self.upsample_text_layers,
            **common,
        )
        return GlideShapes(base=base, upsample=upsampler)


@dataclass(frozen=True)
class Lessons:
    """Pictures, the tokens of their wordings and of their things' names (with which of them are text), and the rows to draw from."""

    images: Tensor  # uint8 (N, 3, 64, 64)
    things: Tensor  # (N,)
    pairs: Tensor  # (N, wording, K) token ids
    is_pair: Tensor
    names: Tensor  # (thing, wording, K)
    is_name: Tensor
    pool: Tensor


def build_lessons(examples: Examples, wordings: list[list[str]], tokenizer: GlideTokenizer, recipe: GlideRecipe) -> Lessons:
    """Turn every wording into tokens once."""
    groups = {"pair": wordings, "name": [list_name_texts(name) for name in examples.names]}
    tokens = {}
    for group, texts in groups.items():
        ids, is_text = tokenizer.pad([text for row in texts for text in row], recipe.text_tokens)
        tokens[f"{group}s"], tokens[f"is_{group}"] = (part.view(len(texts), -1, recipe.text_tokens) for part in (ids, is_text))
    copies = torch.where(examples.looks == STYLES.index("outline"), recipe.outline_copies, 1)
    return Lessons(examples.images, examples.things, pool=torch.arange(len(examples)).repeat_interleave(copies), **tokens)


def draw_texts(lessons: Lessons, chosen: Tensor, recipe: GlideRecipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a wording for the examples numbered `chosen` -> token ids (B, K), and which of them are text: none where the text is dropped."""

    def draw(limit: int) -> Tensor:
        return torch.randint(limit, (len(chosen),), generator=generator, device=generator.device)

    rows = torch.rand(len(chosen), generator=generator, device=generator.device)
    wording, name = draw(lessons.pairs.shape[1]), draw(lessons.names.shape[1])
    ids, is_text = lessons.pairs[chosen, wording], lessons.is_pair[chosen, wording]
    things, is_name = lessons.things[chosen], (rows < recipe.name_share)[:, None]
    ids = torch.where(is_name, lessons.names[things, name], ids)
    is_text = torch.where(is_name, lessons.is_name[things, name], is_text)
    return ids, is_text & (rows < 1 - recipe.drop_share)[:, None]


class Learner(nn.Module):
    """A model and what helps its text side: which thing a text is about has to be told from its one vector.

    Without it the text side learns which style is asked for and no thing, which is far from the loss; nor does it by a sketch of the picture, whose
    shades change sign with the style.
    """

    def __init__(self, unet: GlideUnet, recipe: GlideRecipe, *, num_things: int) -> None:
        super().__init__()
        self.unet, self.recipe = unet, recipe
        self.naming = nn.Linear(4 * unet.shape.channels, num_things)
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def forward(
        self, images_B3HW: Tensor, thing_B: Tensor, ids_BK: Tensor, is_text_BK: Tensor, alpha_T: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch, at first that of the things alone; texts that are dropped are about none."""
        with torch.autocast(images_B3HW.device.type, torch.bfloat16):
            text = self.unet.read_text(ids_BK, is_text_BK)
            names_BT = self.naming(text.pooled_BE).float()
        is_told_B = is_text_BK.any(dim=1)
        error_B = functional.cross_entropy(names_BT, thing_B, reduction="none")
        naming = (error_B * is_told_B).sum() / is_told_B.sum().clamp(min=1)
        self.num_batches += 1
        if self.num_batches <= self.recipe.text_steps:
            return naming, {"naming": naming.detach()}
        noise = compute_noise_loss(self.unet, images_B3HW, text, self.recipe, alpha_T, generator)
        return noise + self.recipe.naming_weight * naming, {"naming": naming.detach()}


def shrink(images_B3HW: Tensor, size: int) -> Tensor:
    """Take means of as many pixels as it takes."""
    return functional.avg_pool2d(images_B3HW, images_B3HW.shape[-1] // size)


def draw_tint(noise_B3hw: Tensor, small: int, most: float, generator: torch.Generator) -> Tensor:
    """Draw a noise of large areas, as strong as `most` or less, so that an upsampler has to take its colours from the small picture.

    White noise hides no colour of an area, but at the first steps of drawing nothing else is there; a model that has learnt to read colours from
    what it draws on keeps the wrong ones that those steps leave.
    """
    size, device = len(noise_B3hw), noise_B3hw.device
    grid, whole = (torch.randn((size, 3, side, side), generator=generator, device=device) for side in (small, 1))
    strength = most * torch.rand((size, 1, 1, 1), generator=generator, device=device)
    return strength * functional.interpolate(grid + whole, size=noise_B3hw.shape[2:])


def compute_noise_loss(
    model: GlideUnet, images_B3HW: Tensor, text: TextStates, recipe: GlideRecipe, alpha_T: Tensor, generator: torch.Generator
) -> Tensor:
    """Weighted mean squared error of the noise that the model sees in pictures of its size, at random steps.

    The weights are those of the velocity's error (Salimans & Ho 2022) under min-SNR (Hang et al. 2023): with all steps alike, most of the error
    is that of fine grain, which no text tells of, and a model draws styles and no things.
    """
    shape, device = model.shape, images_B3HW.device
    size = len(images_B3HW)
    clean_B3hw = shrink(images_B3HW, shape.image_size)
    timestep_B = torch.randint(NUM_TIMESTEPS, (size,), generator=generator, device=device)
    noise_B3hw = torch.randn(clean_B3hw.shape, generator=generator, device=device)
    if shape.low_res_size:
        noise_B3hw = noise_B3hw + draw_tint(noise_B3hw, shape.low_res_size, recipe.tint, generator)
    alpha_B111 = alpha_T[timestep_B].view(-1, 1, 1, 1)
    noisy_B3hw = alpha_B111.sqrt() * clean_B3hw + (1 - alpha_B111).sqrt() * noise_B3hw
    low_res = None
    if shape.low_res_size:
        small = shrink(images_B3HW, shape.low_res_size)
        level = recipe.low_res_noise * torch.rand((size, 1, 1, 1), generator=generator, device=device)
        low_res = round_to_8_bits((small + level * torch.randn(small.shape, generator=generator, device=device)).clamp(-1, 1))
    with torch.autocast(device.type, torch.bfloat16):
        output = model(noisy_B3hw, timestep_B, text, low_res)
    error_B = (output[:, :3].float() - noise_B3hw).square().mean(dim=(1, 2, 3))
    alpha_B = alpha_T[timestep_B]
    weight_B = (recipe.max_snr * (1 - alpha_B) / alpha_B).clamp(max=1) / alpha_B.clamp(min=recipe.least_alpha)
    return (weight_B * error_B).mean() / weight_B.mean()


@torch.no_grad()
def measure_held_out(model: GlideUnet, held: Examples, tokenizer: GlideTokenizer, recipe: GlideRecipe) -> dict[str, float]:
    """The loss on held-out pairs under their canonical captions, always with the same steps and noise."""
    alpha_T = torch.from_numpy(compute_alphas(model.shape.schedule)).float()
    texts = tokenizer.pad([describe_example(held, row) for row in range(len(held))], recipe.text_tokens)
    generator, losses = torch.Generator().manual_seed(0), []
    for rows in torch.arange(len(held)).split(64):
        text = model.read_text(texts[0][rows], texts[1][rows])
        loss = compute_noise_loss(model, scale_images(held.images[rows]), text, recipe, alpha_T, generator)
        losses.append(loss.item() * len(rows))
    return {"held_out_loss": sum(losses) / len(held)}
