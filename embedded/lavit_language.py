"""The language model of the small LaVIT: its tokenizer, its shape, and the prompts that it learns from; the recipe is `embedded.train_lavit`."""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from embedded.stickers import choose_article
from embedded.texts import list_name_texts
from pipeline.data.openmoji import STYLES
from pipeline.models.lavit.language import Part, number_parts
from pipeline.models.lavit.model import LANGUAGE
from pipeline.models.lavit.prompts import LIKED, WANTED, WANTED_ALONE, write_prompt
from pipeline.models.lavit.shape import LavitShape

MARKS = ("<unk>", "<s>", "</s>")  # the first ids, as in Llama's tokenizer
IGNORED = -100  # labels of what is not learnt
BARE_SHARE = 0.1  # of the rows have no prompt, for guidance
ALONE_SHARE = 0.25  # of the rows have no liked pictures
STRAY_SHARE = 0.3  # of the rows have a liked picture in another style


@dataclass(frozen=True)
class LanguageLessons:
    """What the things are called, and of N pictures which pair they show (N, 2) and their codes, drawn several times."""

    names: list[str]
    pairs: Tensor
    codes: list[list[Tensor]]  # (draw, N) of (K,)

    def draw_codes(self, row: int, rng: random.Random) -> Tensor:
        """Return one of the drawn codes of a picture."""
        return rng.choice(self.codes)[row]

    def list_rows(self, column: int, value: int) -> list[int]:
        """List the pictures of a thing (column 0), or in a style (1)."""
        return torch.nonzero(self.pairs[:, column] == value)[:, 0].tolist()


def build_tokenizer(names: tuple[str, ...], shape: LavitShape) -> PreTrainedTokenizerBase:
    """Learn byte pairs from names and prompts, up to as many as the shape has room for; the same bytes every time."""
    texts = [text for name in names for text in (*list_name_texts(name), f"{choose_article(name)} {name}")]
    texts += [template.format(title=title) for title in texts[:200] for template in (LIKED, WANTED, WANTED_ALONE)] + list(STYLES)
    tokenizer = Tokenizer(models.BPE(unk_token=MARKS[0]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=shape.text_tokens, initial_alphabet=alphabet, special_tokens=list(MARKS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=MARKS[0], bos_token=MARKS[1], eos_token=MARKS[2])


def build_language(shape: LavitShape, folder: Path | None) -> LlamaForCausalLM:
    """Build an untrained language model, or load the shipped one from LaVIT's folder."""
    if folder is not None:
        return LlamaForCausalLM.from_pretrained(folder / LANGUAGE, dtype=torch.float32)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=6,
            max_position_embeddings=640,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def save_language(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write model, in half precision, and tokenizer below LaVIT's folder."""
    state = {name: value.half() for name, value in model.state_dict().items()}
    model.save_pretrained(folder / LANGUAGE, state_dict=state)
    tokenizer.save_pretrained(folder / LANGUAGE)


def build_batch(
    known: LanguageLessons,
    wanted: LanguageLessons,
    tokenizer: PreTrainedTokenizerBase,
    shape: LavitShape,
    *,
    seed: int,
    size: int,
    history: int,
    only_full: bool = False,
) -> tuple[Tensor, Tensor]:
    """Draw rows that ask for pictures of `wanted` by pictures that are known -> ids (B, S), padded at the end, and labels of the answers alone.

    With `only_full` every row has liked pictures.
    """
    rng, rows = random.Random(seed), []
    for _ in range(size):
        target = rng.randrange(len(wanted.pairs))
        parts = [] if rng.random() < BARE_SHARE and not only_full else draw_prompt(known, wanted, target, rng, history, only_full=only_full)
        prompt = [*number_parts(parts, tokenizer, shape), shape.image_start]
        answer = [*(wanted.draw_codes(target, rng) + shape.first_code).tolist(), shape.image_end]
        rows.append((torch.tensor(prompt + answer), torch.tensor([IGNORED] * len(prompt) + answer)))
    ids, labels = zip(*rows, strict=True)
    return pad_sequence(list(ids), batch_first=True), pad_sequence(list(labels), batch_first=True, padding_value=IGNORED)


def draw_prompt(known: LanguageLessons, wanted: LanguageLessons, target: int, rng: random.Random, history: int, *, only_full: bool) -> list[Part]:
    """Draw what leads to a picture: others in its style, some strays among them, its thing's name, and the thing in another style."""
    thing, style = wanted.pairs[target].tolist()
    title = rng.choice(list_name_texts(known.names[thing])[:2])
    if rng.random() < ALONE_SHARE and not only_full:
        return write_prompt(title, wanted.draw_codes(target, rng), [])
    same_style = [row for row in known.list_rows(1, style) if known.pairs[row, 0] != thing]
    liked = rng.sample(same_style, rng.randint(2, history))
    if rng.random() < STRAY_SHARE:
        liked[rng.randrange(len(liked))] = rng.randrange(len(known.pairs))
    others = [row for row in known.list_rows(0, thing) if known.pairs[row, 1] != style]
    reference = rng.choice(others or known.list_rows(0, thing))
    return write_prompt(title, known.draw_codes(reference, rng), [known.draw_codes(row, rng) for row in liked])
