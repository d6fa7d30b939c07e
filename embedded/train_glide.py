"""Train a small GLIDE for the baseline of that name: a base model of 16 px, an upsampler to 64 px, each with a text transformer of its own.

Run as `python -m embedded.train_glide` (some two hours of one core; it needs nothing of the other recipes). The upsampler makes four times as
large, as the official one does, and learns in half as many steps; `--only-upsampler` leaves the base model as it is. Both learn from the training
pairs of the default data set alone; the text side begins at random too, tokenizer included. The loss is the weighted squared error of the noise, and
a fifth of the captions is dropped. Nothing trains the variance, whose channels stay 0: its logarithm lies midway between its bounds.
"""

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

from embedded.examples import Examples, describe_example, write_texts
from embedded.glide_lessons import GlideRecipe, Learner, Lessons, build_lessons, draw_texts, measure_held_out
from embedded.stickers import DEFAULT_UNIVERSE, Stickers, load_stickers, scale_images
from embedded.texts import list_name_texts
from embedded.training import DEVICE, TRAIN_DIR, WEIGHTS_DIR, move_tensors, parse_arguments, train_module, write_atomically
from pipeline.json_files import write_json
from pipeline.models.glide.config import GlideSampling
from pipeline.models.glide.model import BASE, UPSAMPLER, Glide, load_unet
from pipeline.models.glide.sampling import compute_alphas
from pipeline.models.glide.shape import CONFIG_NAME, GlideShape, GlideShapes
from pipeline.models.glide.tokens import MERGES, VOCABULARY, GlideTokenizer, load_tokenizer
from pipeline.models.glide.unet import GlideUnet

GLIDE_DIR = WEIGHTS_DIR / "glide"
FILES = {"glide_base": BASE, "glide_upsample": UPSAMPLER}  # by the name of the training
PADDING = "<|endoftext|>"
SHEET_SAMPLING = GlideSampling(steps=25, guidance_scale=3.0, upsample_steps=10, upsample_temperature=0.997)
SHEET_SIZE = 24  # pictures


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
    path = TRAIN_DIR / "glide_base" / "held_out.png"
    path.parent.mkdir(parents=True, exist_ok=True)  # which --only-upsampler has not made
    Image.fromarray(sheet).save(path)


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
