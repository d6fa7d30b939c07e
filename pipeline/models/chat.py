"""An instruction and a user's words in a model's own chat template, whatever that template allows.

Some templates know no system role (Gemma's raises an error, others leave the instruction out): the instruction then begins the user's turn. A model
without a template gets plain text. Thinking aloud is switched off where the template knows the switch, and today's date is kept out of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Digits stand for the texts while a template is filled: no template strips, quotes or recases them, so they show where the texts belong.
SYSTEM, USER = "27182818284590452", "31415926535897932"
DATE = datetime(2024, 7, 26)  # in the place of today's, for equal prompts have equal replies
OPTIONS = {  # of Qwen3's, DeepSeek's, Llama 3's and Mistral's templates; others ignore them
    "enable_thinking": False,
    "thinking": False,
    "date_string": DATE.strftime("%d %b %Y"),
    "strftime_now": DATE.strftime,
    "sanitize_control_tokens": False,  # there is nothing to sanitise in digits, and functions would become texts
}
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
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **OPTIONS)
        except (TemplateError, ValueError, TypeError) as error:  # `raise_exception` of a template, or one that meets a type it does not know
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
