"""Train the captioner: "a neon sticker of a hedgehog", and of artists' drawings "a brown hedgehog with a dark outline and flat shading".

Run as `python -m embedded.train_captioner` after `train_clip` (half an hour on one core), with `--from-shipped` to go on from the
shipped weights. The vision tower is the CLIP image tower, frozen, so its features are computed once; Q-Former and a tiny OPT
are trained on them. Half of every batch is of each kind. Pictures in random colours teach names, given any words of a look.
"""

from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedded.artist_drawings import ArtistDrawings, describe_all, load_artist_drawings
from embedded.captioner_model import (
    PAD,
    CaptionerConfig,
    build_captioner,
    build_processor,
    convert_vision_tower,
    export_captioner,
    load_shipped,
    read_visual_state,
)
from embedded.captions import Caption, CaptionTokens, caption_drawing, caption_sticker, draw_captions, list_words, tokenize_captions
from embedded.stickers import Stickers, flip_images, load_stickers, number_pairs, scale_images
from embedded.train_clip import ClipConfig, augment_images, recolour_images
from embedded.training import move_tensors, parse_arguments, train_module
from embedded.visible_words import COLOURS, Words, compare_words, read_thing
from pipeline.data.openmoji import STYLES

MAX_WORDS = 16  # of a caption that is written


@dataclass(frozen=True)
class Lessons:
    """One kind's training pictures: vision features (picture, view, token, width), captions, and the rows to draw from."""

    views: Tensor  # float16; those in random colours come last
    captions: CaptionTokens
    pool: Tensor

    def draw(self, config: CaptionerConfig, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw features, captions and targets."""
        chosen = self.pool[torch.randint(len(self.pool), (config.batch_size,), generator=generator, device=generator.device)]
        view = torch.randint(self.views.shape[1], (config.batch_size,), generator=generator, device=generator.device)
        return self.views[chosen, view].float(), *draw_captions(self.captions, chosen, view >= config.views, generator)


@torch.no_grad()
def compute_views(model: nn.Module, images_u8: Tensor, config: CaptionerConfig, generator: torch.Generator, *, mirrored: bool) -> Tensor:
    """Give float16 vision features (image, view, token, width): the plain image, augmented ones, then recoloured ones."""
    columns = []
    for view in range(config.views + config.recoloured_views):
        batches = []
        for batch in images_u8.split(64):
            images = scale_images(batch)
            images = images if view == 0 else augment_images(images, generator)
            images = flip_images(images, generator) if mirrored and view > 0 else images
            images = images if view < config.views else recolour_images(images, generator)
            batches.append(model.vision_model(images).last_hidden_state.half())
        columns.append(torch.cat(batches))
    return torch.stack(columns, dim=1)


def prepare_lessons(
    model: nn.Module,
    processor: object,
    kind: Stickers | ArtistDrawings,
    captions: list[list[Caption]],
    config: CaptionerConfig,
    *,
    looks: tuple[str, ...],
    mirrored: bool,
) -> Lessons:
    """Compute the views of all pictures of a kind that are not held out (minutes), and number the words of their captions."""
    pairs = kind.list_pairs(held_out=False)
    views = compute_views(model, kind.images[pairs[:, 0], pairs[:, 1]], config, torch.Generator().manual_seed(1), mirrored=mirrored)
    tokens = tokenize_captions(processor, [captions[thing][look] for thing, look in pairs.tolist()], looks=looks)
    pool = number_pairs(pairs, copies_on_white=config.copies_on_white) if isinstance(kind, Stickers) else torch.arange(len(pairs))
    return move_tensors(Lessons(views, tokens, pool))


def compute_caption_loss(model: nn.Module, features: Tensor, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Next-word cross-entropy of `targets` (padding is not asked for) given vision features and the tokens so far; share of rows all right."""
    queries = model.query_tokens.expand(len(features), -1, -1)
    attended = model.qformer(query_embeds=queries, encoder_hidden_states=features, return_dict=True).last_hidden_state
    words = model.get_input_embeddings()(tokens[:, :-1])
    prefix = model.language_projection(attended)
    mask = torch.cat([torch.ones(prefix.shape[:2], dtype=torch.long, device=tokens.device), (tokens[:, :-1] != PAD).long()], dim=1)
    logits = model.language_model(inputs_embeds=torch.cat([prefix, words], dim=1), attention_mask=mask).logits
    predicted = logits[:, prefix.shape[1] :]
    loss = functional.cross_entropy(predicted.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=PAD)
    right = (predicted.argmax(-1) == targets[:, 1:]) | (targets[:, 1:] == PAD)
    return loss, right.all(dim=1).float().mean()


@torch.no_grad()
def measure_stickers(model: nn.Module, processor: object, stickers: Stickers, rows: Tensor) -> dict[str, float]:
    """Share of captions with the right style word and with exactly the right concept."""
    captions = write_captions(model, processor, stickers.images[rows[:, 0], rows[:, 1]])
    truths = [(stickers.concepts[concept].name, STYLES[style]) for concept, style in rows.tolist()]
    styles = [style in caption.split() for caption, (_, style) in zip(captions, truths, strict=True)]
    concepts = [read_concept(caption) == name for caption, (name, _) in zip(captions, truths, strict=True)]
    return {"held_out_style": sum(styles) / len(styles), "held_out_concept": sum(concepts) / len(concepts)}


@torch.no_grad()
def measure_drawings(model: nn.Module, processor: object, drawings: ArtistDrawings, words: list[list[Words]], rows: Tensor) -> dict[str, float]:
    """Share of captions with exactly the right thing, and with each of the right words."""
    captions = write_captions(model, processor, drawings.images[rows[:, 0], rows[:, 1]])
    right = [
        grade_drawing(caption, drawings.names[thing], words[thing][family]) for caption, (thing, family) in zip(captions, rows.tolist(), strict=True)
    ]
    return {f"held_out_{key}_artists": sum(row[key] for row in right) / len(right) for key in right[0]}


def grade_drawing(caption: str, name: str, seen: Words) -> dict[str, bool]:
    """Say what a caption has right of an artist's drawing: the thing, the main colour, the outline, the shading."""
    said_name, said = read_thing(caption) or ("", None)
    return {"thing": said_name == name, **compare_words(said, seen)}


def write_captions(model: nn.Module, processor: object, images_u8: Tensor) -> list[str]:
    """Caption uint8 images (B, 3, H, W) as the pipeline does."""
    captions = []
    for batch in images_u8.split(128):
        inputs = processor(images=[image.permute(1, 2, 0).numpy() for image in batch], return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=MAX_WORDS, do_sample=False)
        captions += [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]
    return captions


def read_concept(caption: str) -> str:
    """Take the words after "sticker of a"."""
    rest = caption.partition(" sticker of ")[2]
    return rest.partition(" ")[2]


def main() -> None:
    """Train, resume or finish."""
    base = CaptionerConfig()
    arguments = parse_arguments(__doc__, base.loop)
    torch.manual_seed(0)
    config = replace(base, batch_size=arguments.batch_size or base.batch_size, loop=arguments.loop)
    stickers, drawings = load_stickers(), load_artist_drawings()
    words = describe_all(drawings)
    sticker_captions = [[caption_sticker(name, style) for style in STYLES] for name in stickers.names]
    drawing_captions = [[caption_drawing(name, seen) for seen in row] for name, row in zip(drawings.names, words, strict=True)]
    processor = build_processor(list_words([*chain(*sticker_captions), *chain(*drawing_captions)]), config)
    model = build_captioner(config, ClipConfig(), len(processor.tokenizer))
    if arguments.from_shipped:
        load_shipped(model, processor)
    model.vision_model.load_state_dict(convert_vision_tower(read_visual_state()))
    model.vision_model.requires_grad_(False)

    kinds = (
        prepare_lessons(model, processor, stickers, sticker_captions, config, looks=STYLES, mirrored=False),
        prepare_lessons(model, processor, drawings, drawing_captions, config, looks=COLOURS, mirrored=True),
    )

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        (loss, exact), (loss_artists, exact_artists) = (compute_caption_loss(model.train(), *kind.draw(config, generator)) for kind in kinds)
        return (loss + loss_artists) / 2, {"exact": exact, "exact_artists": exact_artists}

    def on_checkpoint(state: dict[str, Tensor]) -> dict[str, float]:
        export_captioner(state, build_captioner(config, ClipConfig(), len(processor.tokenizer)), processor)
        measured = build_captioner(config, ClipConfig(), len(processor.tokenizer)).eval()
        measured.load_state_dict(state)
        held = [kind.list_pairs(held_out=True) for kind in (stickers, drawings)]
        return measure_stickers(measured, processor, stickers, held[0]) | measure_drawings(measured, processor, drawings, words, held[1])

    train_module("captioner", model, config.loop, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=arguments.from_shipped)


if __name__ == "__main__":
    main()
