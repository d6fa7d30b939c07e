"""GLIDE's tokenizer: byte-pair encoding as GPT-2's, of lower-cased text, with no tokens at start and end.

Its two files are those of the official repository (`glide_text2im/tokenizer/`), packed or not.
"""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

VOCABULARY, MERGES = "encoder.json", "vocab.bpe"
MAX_BYTES = 64 * 2**20  # unpacked; the official ones have 1 MB and 0.5 MB


class GlideTokenizer:
    """Texts to token ids of a fixed number, filled up with the last id."""

    def __init__(self, vocabulary: dict[str, int], merges: Sequence[tuple[str, str]]) -> None:
        # no special tokens: a text that holds one's name is split as any other
        self.tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
        self.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self.size = len(vocabulary)
        self.padding_id = self.size - 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of a whole text; none of an empty one."""
        return self.tokenizer.encode(text.lower()).ids

    def pad(self, texts: Sequence[str], num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut or fill up every text to `num_tokens` -> ids (B, K), and whether each is a text's (B, K)."""
        encoded = [self.encode(text)[:num_tokens] for text in texts]
        ids_BK = torch.tensor([ids + [self.padding_id] * (num_tokens - len(ids)) for ids in encoded]).view(-1, num_tokens)
        length_B = torch.tensor([len(ids) for ids in encoded])
        return ids_BK, torch.arange(num_tokens) < length_B[:, None]


def load_tokenizer(folder: Path) -> GlideTokenizer:
    """Read the tokenizer's two files; ValueError says which one is missing or broken."""
    with tempfile.TemporaryDirectory() as unpacked:
        vocabulary, merges = (_unpack(folder, name, Path(unpacked)) for name in (VOCABULARY, MERGES))
        try:
            return GlideTokenizer(*models.BPE.read_file(str(vocabulary), str(merges)))
        except Exception as error:  # tokenizers raises plain exceptions
            raise ValueError(f"{VOCABULARY} and {MERGES} in {folder} are no byte-pair encoding ({error})") from error


def _unpack(folder: Path, name: str, unpacked: Path) -> Path:
    """Return where a file of the tokenizer lies unpacked."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        return plain
    if not packed.is_file():
        raise ValueError(f"{packed} is missing; copy it from the folder glide_text2im/tokenizer of the official repository openai/glide-text2im")
    try:
        with gzip.open(packed) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{packed} cannot be unpacked ({error})") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{packed} is larger than the allowed {MAX_BYTES:,} bytes when it is unpacked")
    (unpacked / name).write_bytes(content)
    return unpacked / name
