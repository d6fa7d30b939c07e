"""Instruction and question in chat templates of all kinds. Run: pytest tests/pipeline/models/test_chat.py"""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from pipeline.models.chat import split_chat

ALTERNATES = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "<turn>{{ m['content'] | trim }}</turn>{% endfor %}"
)
GEMMA = "<bos>{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + ALTERNATES + "<model>"
DROPS = "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set s = '<<SYS>>' + messages[0]['content'] + '<</SYS>> ' %}{% set messages = messages[1:] %}"
    "{% else %}{% set s = '' %}{% endif %}{% for m in messages %}[INST] {{ s + m['content'] }} [/INST]{% endfor %}"
)
QWEN_3 = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
)
PARTS = "{% for m in messages %}<{{ m['role'] }}>{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}"
QUOTES = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | upper | tojson }}{% endfor %}"
DATED = "{{ date_string }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"

TODAY = "{{ strftime_now('%Y-%m-%d') }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
SWITCH = (
    "{% if thinking is not defined %}{% set thinking = true %}{% endif %}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "<assistant>{% if thinking %}<think>{% else %}</think>{% endif %}"
)
REPEATS = "{% for m in messages %}{{ m['content'] }}{% endfor %}You asked: {{ messages[-1]['content'] }}"


def make_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), chat_template=template)


@pytest.mark.parametrize(
    ("template", "prefix", "rest"),
    [
        (GEMMA, "<bos><turn>Be brief.\n\n", "a dog</turn><model>"),
        (ALTERNATES, "<turn>Be brief.\n\n", "a dog</turn>"),
        (DROPS, "[INST] Be brief.\n\n", "a dog [/INST]"),
        (LLAMA_2, "[INST] <<SYS>>Be brief.<</SYS>> ", "a dog [/INST]"),
        (QWEN_3, "<system>Be brief.<user>", "a dog<assistant><think></think>"),
        (PARTS, "<system>Be brief.<user>", "a dog"),
        (QUOTES, '<system>"Be brief."<user>"', 'a dog"'),
        (DATED, "26 Jul 2024<system>Be brief.<user>", "a dog"),
        (TODAY, "26 Jul 2024<system>Be brief.<user>", "a dog"),
        (SWITCH, "<system>Be brief.<user>", "a dog<assistant></think>"),
        (None, "Be brief.\n\n", "a dog\nAnswer:"),
    ],
)
def test_instruction_and_question_stand_in_every_kind_of_template(template: str | None, prefix: str, rest: str) -> None:
    assert split_chat(make_tokenizer(template), "Be brief.", "a dog") == (prefix, rest)


def test_words_that_a_template_would_change_or_that_stand_in_it_reach_the_model_as_they_are() -> None:
    prefix, rest = split_chat(make_tokenizer(GEMMA), "turn", " <turn> a\n\nturn ")
    assert (prefix, rest) == ("<bos><turn>turn\n\n", " <turn> a\n\nturn </turn><model>")


def test_a_template_that_takes_no_question_is_named_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"takes no user's turn \(no turns at all\); set prompt_style to few_shot"):
        split_chat(make_tokenizer("{{ raise_exception('no turns at all') }}"), "Be brief.", "a dog")
    with pytest.raises(ValueError, match="it leaves out or repeats what it is given"):
        split_chat(make_tokenizer("hello"), "Be brief.", "a dog")
    with pytest.raises(ValueError, match="it leaves out or repeats what it is given"):
        split_chat(make_tokenizer(REPEATS), "Be brief.", "a dog")


def test_of_several_templates_the_default_is_taken_and_none_is_a_sentence() -> None:
    tokenizer = make_tokenizer(None)
    tokenizer.chat_template = {"default": DATED, "rag": "x"}
    assert split_chat(tokenizer, "Be brief.", "a dog") == ("26 Jul 2024<system>Be brief.<user>", "a dog")
    tokenizer.chat_template = {"tool_use": DATED, "rag": DATED}
    with pytest.raises(ValueError, match="multiple chat templates with no default .*; set prompt_style to few_shot"):
        split_chat(tokenizer, "Be brief.", "a dog")


@pytest.mark.parametrize("template", ["{{ 1 / 0 }}", "{{ foo.bar }}", "{{ messages[5].content }}", "{% for m in messages %}", "{{ ''.__class__ }}"])
def test_a_template_that_fails_is_a_sentence(template: str) -> None:
    with pytest.raises(ValueError, match="takes no user's turn .*; set prompt_style to few_shot"):
        split_chat(make_tokenizer(template), "Be brief.", "a dog")
