"""The language model's wrapper, on a tiny Qwen2 saved in the hub's format. Run: pytest tests/pipeline/models/test_llm.py"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.models import decoding
from pipeline.models.decoding import PAD_TOKENS, DecodeRules, Reply
from pipeline.models.kv_cache import RowCache
from pipeline.models.llm import LanguageModel, choose_dtype, load_language_model
from tests.tiny_models import LLM_DIM, save_tiny_qwen2

PREFIX = "Picture: an oil painting.\nKeywords: oil, painting\n\n"
PROMPTS = ["dog", "a cat on a mat", "x" * (PAD_TOKENS + 3), "caption: a red car"]
ALIKE = [f"a picture of {letter * 4}" for letter in "abcdefghijklm"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load_language_model(str(folder))


@pytest.fixture
def vectors_LD() -> torch.Tensor:
    return torch.randn(3, LLM_DIM, generator=torch.Generator().manual_seed(1))


def generate_plainly(model: LanguageModel, text: str, num_tokens: int, *, stop: str = "\n") -> str:
    """The library's greedy decoding of one prompt, cut afterwards: the oracle."""
    ids = model.tokenizer(text, add_special_tokens=False, return_tensors="pt")
    tokens = model.model.generate(**ids, max_new_tokens=num_tokens, do_sample=False, eos_token_id=sorted(model.end_tokens))[0]
    return model.tokenizer.decode(tokens[ids["input_ids"].shape[1] :], skip_special_tokens=True).split(stop, 1)[0].strip()


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_batched_replies_equal_the_librarys_greedy_decoding(model: LanguageModel, prefix: str) -> None:
    replies = model.generate(PROMPTS, prefix=prefix, rules=DecodeRules(8))
    assert replies == [generate_plainly(model, prefix + prompt, 8) for prompt in PROMPTS]
    assert len(set(replies)) > 1


def test_rows_that_have_ended_leave_and_the_others_go_on(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [generate_plainly(model, PREFIX + prompt, 12, stop="no such text") for prompt in ALIKE]
    stop = min(filter(str.isalnum, "".join(plain)), key=lambda char: abs(sum(char in reply for reply in plain) - len(plain) / 2))
    sizes = []
    keep = RowCache.keep
    monkeypatch.setattr(RowCache, "keep", lambda cache, rows, **span: (sizes.append(len(rows)), keep(cache, rows, **span)))
    assert model.generate(ALIKE, prefix=PREFIX, rules=DecodeRules(12, stop=stop)) == [reply.split(stop, 1)[0].strip() for reply in plain]
    assert sizes
    assert max(sizes) < len(ALIKE)


def test_a_common_beginning_is_encoded_once(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    run = decoding.run
    monkeypatch.setattr(decoding, "run", lambda model, ids_BS, *rest: (passes.append(ids_BS.shape), run(model, ids_BS, *rest))[1])
    replies = model.generate(ALIKE + ALIKE[:2], prefix=PREFIX, rules=DecodeRules(1))
    assert replies == [generate_plainly(model, PREFIX + prompt, 1) for prompt in ALIKE + ALIKE[:2]]
    length = len(ALIKE[0])
    assert passes[:2] == [(1, length), (len(ALIKE), length - len("a picture of "))]


def test_a_reply_does_not_depend_on_its_neighbours_nor_on_the_batch_before(model: LanguageModel) -> None:
    rules = DecodeRules(6, max_parts=2, distinct_parts=True)
    alone = [model.generate([prompt], prefix=PREFIX, rules=rules)[0] for prompt in PROMPTS + ALIKE]
    assert model.generate(PROMPTS + ALIKE, prefix=PREFIX, rules=rules) == alone
    assert model.generate(ALIKE[::-1], prefix=PREFIX, rules=rules) == alone[: len(PROMPTS) - 1 : -1]


def test_the_model_stays_frozen_and_in_eval_mode(model: LanguageModel) -> None:
    assert not model.model.training
    assert not any(parameter.requires_grad for parameter in model.model.parameters())


def test_states_equal_those_of_a_plain_forward_pass(model: LanguageModel, vectors_LD: torch.Tensor) -> None:
    states = model.forward_states(PROMPTS, vectors_LD, prefix=PREFIX, max_text_tokens=10)
    prefix_length = len(PREFIX)  # the tiny tokenizer has one token per byte
    for row, prompt in enumerate(PROMPTS):
        ids = model.tokenizer(PREFIX + prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        embeds = torch.cat([model.model.get_input_embeddings()(ids), vectors_LD[None]], dim=1)
        with torch.no_grad():
            expected = model.model(inputs_embeds=embeds, output_hidden_states=True).hidden_states[-1][0]
        text = expected[prefix_length : -len(vectors_LD)][-10:]
        torch.testing.assert_close(states.img_BLD[row], expected[-len(vectors_LD) :], atol=2e-5, rtol=0)  # padding changes the kernels
        torch.testing.assert_close(states.text_BTD[row, : len(text)], text, atol=2e-5, rtol=0)  # likewise
        assert states.mask_BT[row].tolist() == [True] * len(text) + [False] * (10 - len(text))
        assert not states.text_BTD[row, len(text) :].any()


def test_states_of_a_row_do_not_depend_on_its_neighbours(model: LanguageModel, vectors_LD: torch.Tensor) -> None:
    first = model.forward_states(["dog", "a cat", "cow"], vectors_LD, prefix=PREFIX, max_text_tokens=8)
    second = model.forward_states(["bird", "dog", "x" * 40], vectors_LD, prefix=PREFIX, max_text_tokens=8)
    assert torch.equal(first.img_BLD[0], second.img_BLD[1])
    assert torch.equal(first.text_BTD[0], second.text_BTD[1])


def test_gradients_reach_the_img_vectors_and_nothing_else(model: LanguageModel, vectors_LD: torch.Tensor) -> None:
    model.generate(["dog"], prefix=PREFIX, rules=DecodeRules(1))  # the prefix is cached without gradients
    vectors_LD.requires_grad_(True)
    model.forward_states(["dog", "a cat"], vectors_LD, prefix=PREFIX, max_text_tokens=8).img_BLD.square().sum().backward()
    assert vectors_LD.grad is not None
    assert (vectors_LD.grad.norm(dim=1) > 0).all()
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_spare_embedding_rows_are_kept(model: LanguageModel, vectors_LD: torch.Tensor) -> None:
    before = model.model.get_input_embeddings().weight.shape
    model.forward_states(["dog"], vectors_LD, max_text_tokens=4)
    assert model.model.get_input_embeddings().weight.shape == before
    assert before[0] > len(model.tokenizer)


def test_a_chat_is_split_where_the_users_words_begin(model: LanguageModel) -> None:
    prefix, rest = model.split_chat("Be brief.", "a dog")
    assert prefix == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    assert rest == "a dog<|im_end|>\n<|im_start|>assistant\n"


def test_of_a_prompt_that_fills_the_model_the_end_is_read(model: LanguageModel, vectors_LD: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "context", len(PREFIX) + 20)
    end = "what is it called?"[-16:]
    assert model.generate(["x" * 99 + end], prefix=PREFIX, rules=DecodeRules(4)) == model.generate([end], prefix=PREFIX, rules=DecodeRules(4))
    long, short = (model.forward_states([text], vectors_LD, prefix=PREFIX, max_text_tokens=9) for text in ("x" * 99 + end, "x" + end))
    assert torch.equal(long.text_BTD, short.text_BTD)
    assert torch.equal(long.img_BLD, short.img_BLD)
    with pytest.raises(ValueError, match="instruction and reply alone take"):
        model.generate(["dog"], prefix=PREFIX, rules=DecodeRules(30))


class OneTokenPerWord:
    """A stand-in for a tokenizer: token n is the n-th word."""

    words = ("<end>", " dog", ",", " cat", "\n", " big")

    def decode(self, token: int) -> str:
        return self.words[token]


def feed_reply(tokens: list[int], **rules: object) -> Reply:
    reply = Reply(OneTokenPerWord(), {0}, DecodeRules(99, **rules))
    for token in tokens:
        reply.append(token)
    return reply


def test_a_reply_ends_at_the_end_token_a_new_line_or_enough_parts() -> None:
    assert feed_reply([1, 2, 3, 0, 1]).tokens == [1, 2, 3]
    assert feed_reply([1, 4, 3]).tokens == [1, 4]
    assert feed_reply([1, 2, 3, 2, 5], max_parts=2).tokens == [1, 2, 3, 2]


def test_only_the_start_of_a_part_is_kept_from_repeating() -> None:
    assert feed_reply([1, 2], distinct_parts=True).list_forbidden() == [1]
    assert feed_reply([1, 2, 5], distinct_parts=True).list_forbidden() == []
    assert feed_reply([1, 2], distinct_parts=False).list_forbidden() == []


def test_an_unknown_number_format_is_named() -> None:
    with pytest.raises(ValueError, match="language_model_dtype is 'int3'"):
        choose_dtype("int3", torch.device("cpu"))
    assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert choose_dtype("auto", torch.device("cpu")) in (torch.bfloat16, torch.float32)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="language model"):
        load_language_model(str(tmp_path))
