"""LaVIT's language model: a Llama whose vocabulary ends in two marks and the visual codes. It reads words and codes, and writes a picture's codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.models.lavit.config import LavitSampling
from pipeline.models.lavit.sentencepiece import read_pieces
from pipeline.models.lavit.shape import LavitShape
from pipeline.models.references import CHECKED, NO_CODE, check_loaded, check_tokenizer, explain_load_error
from pipeline.models.text_budget import TextBudget

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FIRST_SUPPRESSED = 3  # unknown, start and end may be written, as in the official code: they are no codes and are left out
TITLE_SHARE = 4  # one in so many tokens that the model reads is a title's at most
Part = str | torch.Tensor  # of a prompt: words, or a picture's codes (K,)


class PictureLanguage:
    """A frozen language model with its tokenizer."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, shape: LavitShape) -> None:
        from transformers import GenerationConfig

        rows = model.get_input_embeddings().weight.shape[0]
        if rows < shape.vocabulary or tokenizer.vocab_size > shape.text_tokens:
            raise ValueError(
                f"the language model knows {rows:,} tokens and its tokenizer {tokenizer.vocab_size:,}, but {shape.text_tokens:,} words at most, "
                f"2 marks and {shape.num_codes:,} codes are expected"
            )
        self.model = model.requires_grad_(False).eval()
        self.model.generation_config = GenerationConfig()  # what the folder says of another use of it does not count
        self.tokenizer, self.shape = tokenizer, shape
        self.device: torch.device = model.device
        self.context: int = model.config.max_position_embeddings

    def limit_codes(self, sampling: LavitSampling) -> int:
        """Return how many codes are written at most: as many as asked for, or as a picture has places."""
        return min(sampling.max_new_tokens, self.shape.num_patches)

    def number_parts(self, parts: Sequence[Part]) -> list[int]:
        """Return the ids of a prompt."""
        return number_parts(parts, self.tokenizer, self.shape)

    @torch.inference_mode()
    def write_codes(self, prompt_ids: Sequence[int], sampling: LavitSampling, generator: torch.Generator) -> torch.Tensor:
        """Sample the codes of one picture (K,) on the CPU, away from what is written with no prompt at all; K may be 0."""
        shape = self.shape
        ids_1S = torch.tensor([[*prompt_ids, shape.image_start]], device=self.device)
        alone_11 = ids_1S[:, -1:]
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            # `generate` takes no generator
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            written_1S = self.model.generate(
                input_ids=ids_1S,
                attention_mask=torch.ones_like(ids_1S),
                do_sample=True,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                # never a number that the prompt's length has been written to, as in the official code
                max_new_tokens=self.limit_codes(sampling),
                min_new_tokens=min(sampling.min_new_tokens, shape.num_patches),
                suppress_tokens=list(range(FIRST_SUPPRESSED, shape.text_tokens)),
                eos_token_id=shape.image_end,
                pad_token_id=shape.image_end,
                guidance_scale=sampling.language_guidance,
                negative_prompt_ids=alone_11,
                negative_prompt_attention_mask=torch.ones_like(alone_11),
            )
        codes_K = written_1S[0, ids_1S.shape[1] :].cpu() - shape.first_code
        return codes_K[(codes_K >= 0) & (codes_K < shape.num_codes)]


def number_parts(parts: Sequence[Part], tokenizer: PreTrainedTokenizerBase, shape: LavitShape) -> list[int]:
    """Return the ids of a prompt: words without a mark at their start, codes without marks around them."""
    ids: list[int] = []
    for part in parts:
        ids += split_words(tokenizer, part) if isinstance(part, str) else (part + shape.first_code).tolist()
    return ids


def split_words(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of words; the name of a mark in a title is no mark."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def load_language(folder: Path, shape: LavitShape, *, device: torch.device | str, dtype: torch.dtype) -> PictureLanguage:
    """Load the language model from its folder."""
    from transformers import AutoModelForCausalLM

    with explain_load_error("language model of LaVIT", str(folder)):
        model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **CHECKED)
        check_loaded(report)
        return PictureLanguage(model.to(device), load_tokenizer(folder), shape)


def load_title_budget(folder: Path) -> TextBudget:
    """Load how much of a title the language model is given, so that pictures have room beside it; no weights are read."""
    from transformers import AutoConfig

    with explain_load_error("language model of LaVIT", str(folder)):
        context, tokenizer = AutoConfig.from_pretrained(folder, **NO_CODE).max_position_embeddings, load_tokenizer(folder)
    return TextBudget(lambda text: len(split_words(tokenizer, text)), context // TITLE_SHARE)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer: `tokenizer.json` where it is there, else the official `tokenizer.model`."""
    from transformers import AutoTokenizer, LlamaTokenizer
    from transformers.tokenization_utils_base import generate_merges

    if not (folder / "tokenizer.json").is_file() and (folder / "tokenizer.model").is_file():
        vocabulary = {piece: number for number, piece in enumerate(read_pieces(folder / "tokenizer.model"))}
        tokenizer = LlamaTokenizer(vocab=vocabulary, merges=generate_merges(vocabulary))
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE)
    check_tokenizer(tokenizer)
    return tokenizer
