"""Train a small LaVIT for the baseline of that name: visual tokenizer and decoder first, then a language model that writes codes.

Run as `python -m embedded.train_lavit` (an hour or two of one core; it needs `embedded/weights/clip`, whose image tower becomes its eyes, and
`embedded/weights/diffusion`, whose U-Net draws what it says); `--only-decoder` and `--only-language` train one part. It learns from the training
pairs of the default data set alone.
1. A picture becomes codes, and codes the states that the U-Net reads: those of a short caption, twice. The error is that of the states, and
   of telling them from others'; half of the pictures have another one's outer patches, and the caption then has that one's style. What a code is
   follows as in VQ-VAE, and codes that nothing uses begin anew at vectors of the present.
2. The decoder alone goes on, on codes that stay as they are.
3. A Llama learns the pipeline's own prompts: pictures in one style, a thing's name and a picture of it in another style, and then the codes of the
   thing in the first style; or the name and the picture alone, and then that picture. A tenth have no prompt at all, for guidance.
"""

import copy
from dataclasses import asdict, replace

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedded.lavit_coder import CodeReader, LavitRecipe, PictureCoder, copy_eyes, measure_coder
from embedded.lavit_language import LanguageLessons, build_batch, build_language, build_tokenizer, save_language
from embedded.lavit_lessons import Lessons, build_lessons
from embedded.stickers import DEFAULT_UNIVERSE, flip_images, load_stickers, shift_images
from embedded.texts import encode_texts
from embedded.training import DEVICE, WEIGHTS_DIR, move_tensors, parse_arguments, train_module, write_atomically
from pipeline.json_files import write_json
from pipeline.models.lavit.model import DECODERS, ENCODER_FILE, TOKENIZER, VISION_FILE
from pipeline.models.lavit.pixels import EMPTY, FOLDERS, UNCONDITIONAL
from pipeline.models.lavit.shape import CONFIG_NAME

LAVIT_DIR = WEIGHTS_DIR / "lavit"


def save_coder(state: dict[str, Tensor], recipe: LavitRecipe) -> None:
    """Write the three files of the official layout, in half precision and as safetensors, and what stands beside them."""
    parts = {"vision.": VISION_FILE, "tokenizer.": ENCODER_FILE, "decoder.": DECODERS["lowres"][0]}
    for prefix, name in parts.items():
        halved = {key.removeprefix(prefix): value.half().contiguous() for key, value in state.items() if key.startswith(prefix)}
        save_tensors(halved, f"{TOKENIZER}/{name}")
    save_tensors({EMPTY: encode_texts([""])[0][:, : recipe.shape.num_patches].contiguous()}, f"{FOLDERS['lowres']}/{UNCONDITIONAL}")
    write_json(LAVIT_DIR / CONFIG_NAME, asdict(recipe.shape))


def save_tensors(content: dict[str, Tensor], name: str) -> None:
    """Write a file of the official layout as safetensors."""
    write_atomically((LAVIT_DIR / name).with_suffix(".safetensors"), lambda temporary: save_file(content, temporary))


def load_coder(recipe: LavitRecipe) -> PictureCoder:
    """Load what `save_coder` wrote."""
    coder = PictureCoder(recipe)
    names = (VISION_FILE, ENCODER_FILE, DECODERS["lowres"][0])
    for part, name in zip((coder.vision, coder.tokenizer, coder.decoder), names, strict=True):
        part.load_state_dict(load_file((LAVIT_DIR / TOKENIZER / name).with_suffix(".safetensors")))
    return coder.eval()


def train_coder(lessons: Lessons, held: Lessons, recipe: LavitRecipe, *, eyes: dict[str, Tensor] | None = None, goes_on: bool) -> None:
    """Train tokenizer and decoder behind `eyes`, or go on, and write all three at every checkpoint."""
    coder = load_coder(replace(recipe, free_steps=0)) if goes_on else PictureCoder(recipe)
    if eyes is not None and not goes_on:
        coder.vision.load_state_dict(eyes, strict=False)  # but for what comes behind the last block, which nothing reads
    known, lessons = lessons, move_tensors(lessons)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        rows = lessons.draw_rows(recipe.batch_size, generator)
        donors = lessons.draw_donors(rows, recipe.mixed_share, generator)
        images = shift_images(flip_images(lessons.images[rows], generator), generator, reach=3)
        things, styles = lessons.pairs[rows].T
        states = lessons.find_states(torch.stack([things, styles[donors]], dim=1))
        with torch.autocast(DEVICE.type, torch.bfloat16):
            return coder(images, styles, donors, states, generator)

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        save_coder(state, recipe)
        measured = copy.deepcopy(coder).cpu().eval()
        measured.load_state_dict(state)
        return measure_coder(measured, known, held)

    train_module("lavit_coder", coder.train(), recipe.loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=goes_on)


def train_decoder(lessons: Lessons, held: Lessons, recipe: LavitRecipe, *, goes_on: bool) -> None:
    """Train the decoder alone, or go on, on the codes of the shipped tokenizer, which stays as it is."""
    coder = load_coder(recipe)
    known, lessons = lessons, move_tensors(lessons)
    reader = CodeReader(coder, known)
    reader.codes_DBN, reader.captions_CND = reader.codes_DBN.to(DEVICE), reader.captions_CND.to(DEVICE)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            return reader(lessons, generator)

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        name = DECODERS["lowres"][0]
        save_tensors({key.removeprefix("decoder."): value.half().contiguous() for key, value in state.items()}, f"{TOKENIZER}/{name}")
        return measure_coder(load_coder(recipe), known, held)

    train_module("lavit_decoder", reader.train(), recipe.decoder_loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=goes_on)


def train_language(names: tuple[str, ...], lessons: Lessons, held: Lessons, recipe: LavitRecipe, *, goes_on: bool) -> None:
    """Train the language model on the codes of the shipped tokenizer, or go on, and write it at every checkpoint."""
    coder = load_coder(recipe)
    tokenizer = build_tokenizer(names, recipe.shape)
    model = build_language(recipe.shape, LAVIT_DIR if goes_on else None)
    known, unseen = (
        LanguageLessons(list(names), part.pairs, [coder.write_codes(part.images, seed=1000 * draw) for draw in range(recipe.code_draws)])
        for part in (lessons, held)
    )

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        seed = int(torch.randint(2**31, (), generator=generator, device=DEVICE))
        ids, labels = build_batch(known, known, tokenizer, recipe.shape, seed=seed, size=recipe.language_batch_size, history=recipe.history)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            return model(input_ids=ids.to(DEVICE), labels=labels.to(DEVICE)).loss, {}

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        measured = copy.deepcopy(model).cpu().eval()
        measured.load_state_dict(state)
        save_language(measured, tokenizer, LAVIT_DIR)
        ids, labels = build_batch(known, unseen, tokenizer, recipe.shape, seed=0, size=128, history=recipe.history, only_full=True)
        with torch.no_grad():
            return {"held_out_loss": measured(input_ids=ids, labels=labels).loss.item()}

    train_module("lavit_language", model.train(), recipe.language_loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=goes_on)


def main() -> None:
    """Train, resume or finish: what codes pictures, then its decoder alone, then the language model, each for as many steps."""
    base = LavitRecipe()
    flags = {"--only-decoder": "train the decoder alone", "--only-language": "leave tokenizer and decoder as they are"}
    arguments = parse_arguments(__doc__, base.loop, flags=flags)
    torch.manual_seed(0)
    length = {"steps": arguments.loop.steps, "peak_rate": arguments.loop.peak_rate}
    recipe = replace(
        base,
        batch_size=arguments.batch_size or base.batch_size,
        language_batch_size=arguments.batch_size or base.language_batch_size,
        loop=arguments.loop,
        decoder_loop=replace(base.decoder_loop, **length),
        language_loop=replace(base.language_loop, **length),
    )
    has_all = not (arguments.only_decoder or arguments.only_language)
    stickers = load_stickers(DEFAULT_UNIVERSE)
    lessons, held = (build_lessons(stickers, base.shape.num_patches, held_out=held_out) for held_out in (False, True))
    if has_all:
        train_coder(lessons, held, recipe, eyes=copy_eyes(load_file(WEIGHTS_DIR / "clip" / "trained.safetensors")), goes_on=arguments.from_shipped)
    if has_all or arguments.only_decoder:
        train_decoder(lessons, held, recipe, goes_on=True)  # from where the first part has left it
    if has_all or arguments.only_language:
        train_language(stickers.names, lessons, held, recipe, goes_on=arguments.from_shipped)


if __name__ == "__main__":
    main()
