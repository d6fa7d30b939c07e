"""The two prompts: p_k asks for an item's keywords (eq. 6), p_g describes the picture that a user would like (eq. 7).

Departure: the paper's prompts are in an appendix that is not public; the wording is ours. A prompt reaches the model as
(prefix, prompt): the prefix is the same for all rows and encoded once. `chat` wraps both in the model's own chat template,
`few_shot` puts worked examples in front of p_k, which small models need, and nothing in front of p_g.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.models.llm import LanguageModel

PromptStyle = Literal["chat", "few_shot"]
MAX_CHARS = 400  # of a caption or an item's text; titles of shops can be long lists of search words
MAX_TITLE_CHARS = 120  # of an item's text in p_k: a title's first words say what it is, and small models have no reply to a page of search words

KEYWORD_SYSTEM = (
    "You name what is visible in pictures. Answer with English keywords only, separated by commas, in one line: "
    "no sentences, no numbering, no brand names, no names of persons. Translate other languages into English."
)
DETAIL_SYSTEM = "You imagine pictures for people, in the look that they like."

FEW_SHOT_TASK = "Name five keywords for each picture: its style, then what it shows."
# They show the shape of an answer; none of these looks or things is in the data that we ship.
EXAMPLES = (
    ("a watercolor sticker of a weasel", "weasel", ("watercolor", "sticker", "weasel", "animal", "tail")),
    ("a plain sticker of a cello", "cello", ("plain", "sticker", "cello", "music", "strings")),
    ("a silhouette sticker of a bearded man", "bearded man", ("silhouette", "sticker", "bearded man", "person", "face")),
    ("an ink sticker of a bowl of soup", "bowl of soup", ("ink", "sticker", "bowl of soup", "food", "kitchen")),
    ("a gothic sticker of a cathedral", "cathedral", ("gothic", "sticker", "cathedral", "church", "building")),
    ("an engraved sticker of a left arrow", "left arrow", ("engraved", "sticker", "left arrow", "sign", "direction")),
    ("a modern sticker of a raincoat", "raincoat", ("modern", "sticker", "raincoat", "rain", "weather")),
    ("a retro sticker of a telephone booth", "telephone booth", ("retro", "sticker", "telephone booth", "street", "city")),
)


def build_keyword_prompt(caption: str, text: str, *, prompt_style: PromptStyle, num_keywords: int) -> str:
    """Build p_k(cap_i, txt_i), without its prefix; an empty text is left out."""
    caption, text = flatten_text(caption), flatten_text(text, max_chars=MAX_TITLE_CHARS)
    if prompt_style == "few_shot":
        language = "" if text.isascii() else " in English"  # said where it is needed: the titles of shops may be Chinese
        return f"Picture: {caption}{f', text: {text}' if text else ''}\nKeywords{language}:"
    named = f"The item in it is called: {text}\n" if text else ""
    return (
        f"An image model describes a picture as: {caption}\n{named}"
        f"Give {num_keywords} short visual keywords of at most three words: first its style or material, then what it shows, then its theme."
    )


def build_examples() -> str:
    """Build the task and the worked examples that `few_shot` puts in front of p_k."""
    blocks = [
        build_keyword_prompt(caption, text, prompt_style="few_shot", num_keywords=len(keywords)) + f" {', '.join(keywords)}"
        for caption, text, keywords in EXAMPLES
    ]
    return "".join(f"{block}\n\n" for block in [FEW_SHOT_TASK, *blocks])


def build_detailed_prompt(keywords: Sequence[str], *, reference_text: str | None, reference_caption: str | None) -> str:
    """Build p_g from w' and, unless None, the reference's text and caption; the [IMG] tokens follow it."""
    liked = ", ".join(keywords)
    if reference_text is None and reference_caption is None:
        return f"A person likes pictures with: {liked}. Describe the picture that this person would like:"
    # each once: the caption may stand in for the text
    parts = dict.fromkeys(flatten_text(part) for part in (reference_text, reference_caption) if part and part.strip())
    return f"A person likes pictures with: {liked}. The next picture shows: {', '.join(parts)}. Describe it the way this person would like it:"


def wrap_keyword_prompt(prompt: str, language_model: LanguageModel, *, prompt_style: PromptStyle) -> tuple[str, str]:
    """Return (prefix, rest) of p_k as the model reads it."""
    if prompt_style == "few_shot":
        return build_examples(), prompt
    return language_model.split_chat(KEYWORD_SYSTEM, prompt)


def wrap_detailed_prompt(prompt: str, language_model: LanguageModel, *, prompt_style: PromptStyle) -> tuple[str, str]:
    """Return (prefix, rest) of p_g as the model reads it."""
    return ("", prompt) if prompt_style == "few_shot" else language_model.split_chat(DETAIL_SYSTEM, prompt)


def flatten_text(text: str, *, max_chars: int = MAX_CHARS) -> str:
    """Return `text` on one line, cut at `max_chars`, at the end of a word where it has one in the second half."""
    line = " ".join(text.split())
    if len(line) <= max_chars:
        return line
    end = line.rfind(" ", max_chars // 2, max_chars + 1)
    return line[: end if end > 0 else max_chars]
