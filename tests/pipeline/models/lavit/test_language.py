"""LaVIT's language model, its tokenizer's official file, and prompts. Run: python -m pytest tests/pipeline/models/lavit/test_language.py"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, LlamaForCausalLM

from pipeline.models.lavit.language import PictureLanguage, load_language, load_title_budget, load_tokenizer
from pipeline.models.lavit.prompts import write_prompt
from pipeline.models.lavit.sentencepiece import read_pieces
from tests.tiny_lavit import CONTEXT, SAMPLING, SHAPE, save_tiny_language

START, END, FIRST = SHAPE.image_start, SHAPE.image_end, SHAPE.first_code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lavit") / "language_model"
    save_tiny_language(folder)
    return folder


@pytest.fixture(scope="module")
def language(folder: Path) -> PictureLanguage:
    return load_language(folder, SHAPE, device="cpu", dtype=torch.float32)


def write(language: PictureLanguage, text: str = "a nail", *, seed: int = 0, **changes: object) -> list[int]:
    ids = language.number_parts([text])
    return language.write_codes(ids, replace(SAMPLING, **changes), torch.Generator().manual_seed(seed)).tolist()


def test_codes_stand_in_a_prompt_without_marks_around_them(language: PictureLanguage) -> None:
    words = language.number_parts(["ab"])
    assert len(words) == 2
    assert language.number_parts(["ab", torch.tensor([0, 49]), "ab"]) == [*words, FIRST, FIRST + 49, *words]


def test_the_name_of_a_mark_in_a_title_is_no_mark(language: PictureLanguage) -> None:
    assert len(language.number_parts(["</s>"])) == 4  # bytes


def test_a_pictures_codes_follow_from_prompt_and_generator(language: PictureLanguage) -> None:
    codes = write(language)
    assert write(language) == codes
    assert write(language, seed=1) != codes
    assert write(language, "a hammer") != codes
    assert all(0 <= code < SHAPE.num_codes for code in codes)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    write(language)
    assert torch.rand(1) == expected  # nobody else's random numbers are used up


def test_words_are_suppressed_and_what_else_is_no_code_is_left_out(folder: Path) -> None:
    """A model to which every id is as likely."""
    model = LlamaForCausalLM.from_pretrained(folder)
    model.lm_head.weight.data.zero_()
    language = PictureLanguage(model, load_tokenizer(folder), SHAPE)
    seen: list[int] = []
    for seed in range(20):  # of 55 ids that may be written 5 are no codes
        seen += write(language, seed=seed, min_new_tokens=0, top_k=1000, language_guidance=1.0)
    assert set(seen) <= set(range(SHAPE.num_codes))
    assert len(set(seen)) > 20


def make_ready(folder: Path, wanted: int) -> PictureLanguage:
    """A model that always wishes for one id: the final states are all ones, and its row alone looks at them."""
    model = LlamaForCausalLM.from_pretrained(folder)
    model.model.embed_tokens.weight.data.fill_(1.0)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    model.lm_head.weight.data.zero_()
    model.lm_head.weight.data[wanted] = 5.0
    model.lm_head.weight.data[FIRST] = 1.0
    return PictureLanguage(model, load_tokenizer(folder), SHAPE)


def test_the_end_mark_ends_a_picture_but_not_before_the_least_number(folder: Path) -> None:
    language = make_ready(folder, END)
    for least in (0, 1, 4):
        assert len(write(language, min_new_tokens=least, language_guidance=1.0)) == least


@pytest.mark.parametrize("text", ["a", "a nail " * 20])
def test_a_picture_has_no_more_codes_than_asked_for_however_long_the_prompt(folder: Path, text: str) -> None:
    """The official code takes a tokenised prompt's length for the number of new tokens."""
    language = make_ready(folder, FIRST + 1)
    assert write(language, text) == [1] * SAMPLING.max_new_tokens
    assert write(language, text, max_new_tokens=100) == [1] * SHAPE.num_patches  # places of a condition


def test_guidance_leads_away_from_what_the_start_mark_alone_brings(language: PictureLanguage) -> None:
    """The first code's probabilities are those of u + s (c - u), of log-probabilities of the prompt and of the mark."""
    ids = [*language.number_parts(["a nail"]), START]
    with torch.no_grad():
        with_prompt, alone = (language.model(torch.tensor([row])).logits[0, -1].log_softmax(-1) for row in (ids, [START]))
    scores = alone + 3.0 * (with_prompt - alone)
    scores[3 : SHAPE.text_tokens] = -torch.inf
    best = int(scores.argmax())
    assert best >= FIRST
    assert best != int(with_prompt[FIRST:].argmax()) + FIRST or best != int(alone[FIRST:].argmax()) + FIRST
    assert write(language, language_guidance=3.0, top_k=1)[0] == best - FIRST
    assert write(language, language_guidance=1.0, top_k=1)[0] == int(with_prompt[FIRST:].argmax())


def test_how_much_it_reads_of_a_title_is_known_without_weights(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    budget = load_title_budget(tmp_path)
    assert budget.reads("x" * (CONTEXT // 4))
    assert not budget.reads("x" * (CONTEXT // 4 + 1))


def test_another_models_vocabulary_is_refused(folder: Path) -> None:
    shape = replace(SHAPE, num_codes=51)
    with pytest.raises(ValueError, match=r"language model of LaVIT .* knows 312 tokens and its tokenizer 256, but 260 words at most, 2 marks and 51"):
        load_language(folder, shape, device="cpu", dtype=torch.float32)


def test_weights_in_torchs_own_parts_are_read(folder: Path, tmp_path: Path, language: PictureLanguage) -> None:
    """As the official ones are: pytorch_model-0000x-of-0000y.bin."""
    state = dict(language.model.state_dict())
    names = sorted(state)
    parts = {f"pytorch_model-0000{part + 1}-of-00002.bin": names[part::2] for part in range(2)}
    for file, chosen in parts.items():
        torch.save({name: state[name].clone() for name in chosen}, tmp_path / file)
    index = {"metadata": {"total_size": 1}, "weight_map": {name: file for file, chosen in parts.items() for name in chosen}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    AutoConfig.from_pretrained(folder).save_pretrained(tmp_path)
    loaded = load_language(tmp_path, SHAPE, device="cpu", dtype=torch.float32)
    assert write(loaded) == write(language)


def field(number: int, content: bytes | int) -> bytes:
    """Write a field of a protocol buffer: a whole number below 128, or bytes."""
    return bytes([number << 3, content]) if isinstance(content, int) else bytes([number << 3 | 2, len(content)]) + content


def build_sentencepiece(pieces: list[str], kind: int = 2) -> bytes:
    """Pieces with a score (field 2, four bytes) and a kind (3 is a control mark)."""
    parts = [field(1, field(1, piece.encode()) + b"\x15\x00\x00\x80\xbf" + field(3, 3 if piece.startswith("<") else 1)) for piece in pieces]
    return b"".join(parts) + field(2, field(3, kind))


def test_the_official_tokenizer_is_read_without_its_library(tmp_path: Path) -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a", "il", "▁n", "▁na", "▁nail", "▁", "a", "n", "i", "l"]
    path = tmp_path / "tokenizer.model"
    path.write_bytes(build_sentencepiece(pieces))
    assert read_pieces(path) == pieces
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a nail", add_special_tokens=False)["input_ids"]) == ["▁a", "▁nail"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("é", add_special_tokens=False)["input_ids"]) == ["▁", "<0xC3>", "<0xA9>"]
    assert tokenizer("a", add_special_tokens=False)["input_ids"] == [pieces.index("▁a")]


@pytest.mark.parametrize("data", [b"", b"\x0a\xff", b"<html>", build_sentencepiece(["a"], kind=1), build_sentencepiece(["a", "a"])])
def test_another_file_is_no_tokenizer(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ValueError, match=r"tokenizer\.model is no SentencePiece model"):
        read_pieces(tmp_path / "tokenizer.model")


def test_a_prompt_tells_of_liked_pictures_then_of_the_wanted_one() -> None:
    reference, first, second = torch.tensor([1]), torch.tensor([2]), torch.tensor([3])
    assert write_prompt("a nail", reference, [first, second]) == [
        "Pictures that this user likes:", first, second, "A picture of a nail in their style, made from this one:", reference,
    ]  # fmt: skip
    assert write_prompt("a nail", reference, []) == ["A picture of a nail, made from this one:", reference]
    assert write_prompt("{x}", reference, [])[0] == "A picture of {x}, made from this one:"
