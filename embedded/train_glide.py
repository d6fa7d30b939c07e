"""Train a small GLIDE for the baseline of that name: a base model of 16 px, an upsampler to 64 px, each with a text transformer of its own.

Run as `python -m embedded.train_glide` (some two hours of one core; it needs nothing of the other recipes). The upsampler makes four times as
large, as the official one does, and learns in half as many steps; `--only-upsampler` leaves the base model as it is. Both learn from the training
pairs of the default data set alone; the text side begins at random too, tokenizer included. The loss is the weighted squared error of the noise, and
a fifth of the captions is dropped. Nothing trains the variance, whose channels stay 0: its logarithm lies midway between its bounds.
"""

import copy
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

from embedded.examples import Examples, describe_example, write_texts
from embedded.stickers import DEFAULT_UNIVERSE, Stickers, load_stickers, scale_images
from embedded.texts import list_name_texts
from embedded.training import DEVICE, TRAIN_DIR, WEIGHTS_DIR, LoopConfig, move_tensors, parse_arguments, train_module, write_atomically
from pipeline.data.openmoji import STYLES
from pipeline.json_files import write_json
from pipeline.models.glide.config import GlideSampling
from pipeline.models.glide.model import BASE, UPSAMPLER, Glide, load_unet
from pipeline.models.glide.sampling import NUM_TIMESTEPS, compute_alphas, round_to_8_bits
from pipeline.models.glide.shape import CONFIG_NAME, GlideShape, GlideShapes
from pipeline.models.glide.text import TextStates
from pipeline.models.glide.tokens import MERGES, VOCABULARY, GlideTokenizer, load_tokenizer
from pipeline.models.glide.unet import GlideUnet

GLIDE_DIR = WEIGHTS_DIR / "glide"
FILES = {"glide_base": BASE, "glide_upsample": UPSAMPLER}  # by the name of the training
PADDING = "<|endoftext|>"
SHEET_SAMPLING = GlideSampling(steps=25, guidance_scale=3.0, upsample_steps=10, upsample_temperature=0.997)
SHEET_SIZE = 24  # pictures


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


def list_examples(stickers: Stickers, *, held_out: bool) -> Examples:
    """List the pairs of the default data set that may, or may not, be learnt from."""
    rows = stickers.list_pairs(held_out=held_out)
    return Examples(
        images=stickers.images[rows[:, 0], rows[:, 1]],
        looks=rows[:, 1],
        things=rows[:, 0],
        names=list(stickers.names),
        groups=[concept.group for concept in stickers.concepts],
        num_stickers=len(rows),
    )


def train_tokenizer(texts: list[str], size: int) -> GlideTokenizer:
    """Learn byte pairs from texts; the id of padding comes last, as in the official vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet, min_frequency=2, show_progress=False)
    tokenizer.train_from_iterator([text.lower() for text in texts], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return GlideTokenizer({**model["vocab"], PADDING: len(model["vocab"])}, [tuple(pair) for pair in model["merges"]])


def save_tokenizer(tokenizer: GlideTokenizer, folder: Path) -> None:
    """Write the two files of the official format."""
    model = json.loads(tokenizer.tokenizer.to_str())["model"]
    write_json(folder / VOCABULARY, model["vocab"])
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""]
    write_atomically(folder / MERGES, lambda temporary: temporary.write_text("\n".join(lines), encoding="utf-8"))


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


def save_model(state: dict[str, Tensor], name: str) -> None:
    """Write a model under the official names, in half precision, as safetensors."""
    halved = {key: value.half().contiguous() for key, value in state.items()}
    write_atomically((GLIDE_DIR / name).with_suffix(".safetensors"), lambda temporary: save_file(halved, temporary))


def train(name: str, shape: GlideShape, lessons: Lessons, held: Examples, tokenizer: GlideTokenizer, recipe: GlideRecipe, *, goes_on: bool) -> None:
    """Train one of the models, or go on, and write it at every checkpoint."""
    file = FILES[name]
    model = load_unet(GLIDE_DIR / file, shape) if goes_on else GlideUnet(shape)
    learner = Learner(model, replace(recipe, text_steps=0) if goes_on else recipe, num_things=len(lessons.names))
    alpha_T = torch.from_numpy(compute_alphas(shape.schedule)).float().to(DEVICE)
    batch_size, loop = recipe.batch_size, recipe.loop
    if shape.low_res_size:
        batch_size, loop = recipe.upsample_batch_size, replace(loop, steps=loop.steps // 2)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = lessons.pool[torch.randint(len(lessons.pool), (batch_size,), generator=generator, device=DEVICE)]
        texts = draw_texts(lessons, chosen, recipe, generator)
        return learner(scale_images(lessons.images[chosen]), lessons.things[chosen], *texts, alpha_T, generator)

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        own = {key.removeprefix("unet."): value for key, value in state.items() if key.startswith("unet.")}
        save_model(own, file)
        measured = copy.deepcopy(model).cpu().eval()
        measured.load_state_dict(own)
        return measure_held_out(measured, held, tokenizer, recipe)

    train_module(name, learner.train(), loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=goes_on)


def save_sheet(held: Examples, tokenizer: GlideTokenizer, shapes: GlideShapes) -> None:
    """Save held-out pictures above what both models draw of their captions."""
    base, upsampler = (load_unet(GLIDE_DIR / file, shape).to(DEVICE) for file, shape in ((BASE, shapes.base), (UPSAMPLER, shapes.upsample)))
    rows = torch.randperm(len(held), generator=torch.Generator().manual_seed(5))[:SHEET_SIZE].tolist()
    generators = [torch.Generator().manual_seed(row) for row in rows]
    prompts = [describe_example(held, row) for row in rows]
    drawn = torch.from_numpy(Glide(base, upsampler, tokenizer).draw(prompts, generators=generators, sampling=SHEET_SAMPLING)).permute(0, 3, 1, 2)
    lines = [part[start : start + 12] for start in range(0, len(rows), 12) for part in (held.images[rows], drawn)]
    sheet = torch.cat([torch.cat(list(line), dim=2) for line in lines], dim=1).permute(1, 2, 0).numpy()
    Image.fromarray(sheet).save(TRAIN_DIR / "glide_base" / "held_out.png")


def main() -> None:
    """Train, resume or finish: the base model, then the upsampler for half as many steps."""
    base = GlideRecipe()
    arguments = parse_arguments(__doc__, base.loop, flags={"--only-upsampler": "leave the base model as it is"})
    torch.manual_seed(0)
    recipe = replace(
        base,
        batch_size=arguments.batch_size or base.batch_size,
        upsample_batch_size=arguments.batch_size or base.upsample_batch_size,
        loop=arguments.loop,
    )
    stickers = load_stickers(DEFAULT_UNIVERSE)
    examples, held = (list_examples(stickers, held_out=held_out) for held_out in (False, True))
    wordings = write_texts(examples, seed=recipe.loop.seed)
    if not arguments.from_shipped and not arguments.only_upsampler:
        names = [text for name in examples.names for text in list_name_texts(name)]
        save_tokenizer(train_tokenizer([*(text for row in wordings for text in row), *names], recipe.vocabulary), GLIDE_DIR)
    tokenizer = load_tokenizer(GLIDE_DIR)
    shapes = recipe.build_shapes(tokenizer.size)
    write_json(GLIDE_DIR / CONFIG_NAME, asdict(shapes))
    lessons = move_tensors(build_lessons(examples, wordings, tokenizer, recipe))
    if not arguments.only_upsampler:
        train("glide_base", shapes.base, lessons, held, tokenizer, recipe, goes_on=arguments.from_shipped)
    train("glide_upsample", shapes.upsample, lessons, held, tokenizer, recipe, goes_on=arguments.from_shipped)
    save_sheet(held, tokenizer, shapes)


if __name__ == "__main__":
    main()
