"""An instruction and a user's words in a model's own chat template, whatever that template allows.

Some templates know no system role (Gemma's raises an error, others leave the instruction out): the instruction then begins the user's turn. A model
without a template gets plain text. Thinking aloud is switched off where the template knows the switch, and today's date is kept out of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Digits stand for the texts while a template is filled: no template strips, quotes or recases them, so they show where the texts belong.
SYSTEM, USER = "27182818284590452", "31415926535897932"
DATE = "26 Jul 2024"  # in the place of today's, for equal prompts have equal replies
OPTIONS = {"enable_thinking": False, "thinking": False, "date_string": DATE}  # of Qwen3's, DeepSeek's and Llama 3's templates; others ignore them
TODAY = f"{{%- macro strftime_now(format) -%}}{DATE}{{%- endmacro -%}}"  # before a template that would ask for the date itself, as Mistral's
# `raise_exception` of a template, or one that meets what it does not know: it is a program of somebody else's
FAILURES = (TemplateError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)
PLAIN = f"{SYSTEM}\n\n{USER}\nAnswer:"


def split_chat(tokenizer: PreTrainedTokenizerBase, system: str, user: str) -> tuple[str, str]:
    """Return (what comes before the user's words, the rest up to where the reply begins); ValueError if the template leaves words out."""
    before, _, after = fill_template(tokenizer).rpartition(USER)
    return before.replace(SYSTEM, system), user + after.replace(SYSTEM, system)


def fill_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Fill the template with SYSTEM and USER, in the first way that it takes."""
    if not tokenizer.chat_template:
        return PLAIN
    reason = "it leaves out or repeats what it is given"
    for messages in list_messages():
        try:
            template = tokenizer.get_chat_template()  # of several, the default one
            template = TODAY + template if "strftime_now" in template else template
            text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True, **OPTIONS)
        except FAILURES as error:
            reason = " ".join(str(error).split())
        else:
            if SYSTEM in text and text.count(USER) == 1:  # a prompt has one place for the user's words
                return text
    raise ValueError(f"the chat template of {tokenizer.name_or_path} takes no user's turn ({reason}); set prompt_style to few_shot.")


def list_messages() -> list[list[dict[str, Any]]]:
    """List the ways to say it: a system's and a user's turn, or the user's alone; the words as text, or as the parts of multimodal models."""
    separate = [("system", SYSTEM), ("user", USER)]
    merged = [("user", f"{SYSTEM}\n\n{USER}")]
    return [
        [{"role": role, "content": [{"type": "text", "text": words}] if in_parts else words} for role, words in turns]
        for turns in (separate, merged)
        for in_parts in (False, True)
    ]
