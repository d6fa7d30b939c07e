"""GLIDE's tokenizer. Run: python -m pytest tests/pipeline/models/glide/test_tokens.py"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pipeline.models.glide.tokens import GlideTokenizer, load_tokenizer
from tests.tiny_glide import MERGES, build_vocabulary, save_tiny_glide

VOCABULARY = build_vocabulary()


@pytest.fixture(scope="module")
def tokenizer() -> GlideTokenizer:
    return GlideTokenizer(VOCABULARY, MERGES)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hammer hammer", ["hammer", "Ġhammer"]),  # a word and the space before it are merged
        ("HAMMer", ["hammer"]),
        ("ham", ["ha", "m"]),
        ("hammer's", ["hammer", "'", "s"]),
        ("é", ["Ã", "©"]),  # byte by byte
        ("<|endoftext|>", ["<", "|", *"endoft", *"ext", "|", ">"]),  # never the padding itself
        ("", []),
    ],
)
def test_texts_become_tokens(tokenizer: GlideTokenizer, text: str, tokens: list[str]) -> None:
    assert tokenizer.encode(text) == [VOCABULARY[token] for token in tokens]


def test_texts_are_cut_or_filled_up_with_the_last_id(tokenizer: GlideTokenizer) -> None:
    ids, is_text = tokenizer.pad(["hammer", "", "a b c d"], 3)
    last = len(VOCABULARY) - 1
    assert ids.tolist() == [[VOCABULARY["hammer"], last, last], [last] * 3, [VOCABULARY["a"], VOCABULARY["Ġ"], VOCABULARY["b"]]]
    assert is_text.tolist() == [[True, False, False], [False] * 3, [True] * 3]


def test_the_official_files_are_packed(tmp_path: Path, tokenizer: GlideTokenizer) -> None:
    folder = save_tiny_glide(tmp_path)
    for name in ("encoder.json", "vocab.bpe"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert load_tokenizer(folder).encode("ham hammer") == tokenizer.encode("ham hammer")


def test_what_is_wrong_with_the_files_is_one_sentence(tmp_path: Path) -> None:
    folder = save_tiny_glide(tmp_path)
    (folder / "vocab.bpe").write_text("#version: 0.2\nq x\n")
    with pytest.raises(ValueError, match=r"encoder\.json and vocab\.bpe in .* are no byte-pair encoding"):
        load_tokenizer(folder)
    (folder / "vocab.bpe").unlink()
    with pytest.raises(ValueError, match=r"vocab\.bpe\.gz is missing; copy it from the folder glide_text2im/tokenizer of the official repository"):
        load_tokenizer(folder)
    (folder / "vocab.bpe.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"vocab\.bpe\.gz cannot be unpacked \(Not a gzipped file"):
        load_tokenizer(folder)
