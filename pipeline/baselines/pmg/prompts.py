"""What PMG asks the language model: keywords of a person's taste, and the soft prompt, whose answer is never decoded.

Paper: Shen et al. 2024, and its released code. The wording is ours. Departures:
1. Keywords come as one comma-separated line, read by the parser of the stage `keywords`; PMG's numbered list and its pattern break on
   numbers of two digits and on words outside of the Latin alphabet.
2. `few_shot` puts worked examples in front, which small models need; `chat` is PMG's way.
3. The merge of attribute mode is sent; the released code builds that prompt and never sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.keywords.prompts import PromptStyle, flatten_text
from pipeline.models.text_budget import UNBOUNDED, TextBudget

if TYPE_CHECKING:
    from pipeline.models.llm import LanguageModel

SYSTEM = (
    "You name what a person likes in pictures. Answer with English keywords only, separated by commas, in one line: "
    "no sentences, no numbering, no kinds of products, no names of persons. Translate other languages into English."
)
SOFT_SYSTEM = "You describe what a person likes."
FEW_SHOT_TASK = "Name eight keywords for what each person likes: the styles, most frequent first, then the themes."
# They show the shape of an answer; none of these looks or things is in the data that we ship.
EXAMPLES = (
    (
        (
            "a watercolor sticker of a weasel",
            "a gothic sticker of a cathedral",
            "a watercolor sticker of a mole",
            "a watercolor sticker of an otter",
        ),
        ("watercolor", "gothic", "sticker", "animal", "forest", "building", "weasel", "church"),
    ),
    (
        (
            "a retro sticker of a telephone booth",
            "an engraved sticker of a cello",
            "a retro sticker of a typewriter",
            "an engraved sticker of a harp",
        ),
        ("retro", "engraved", "sticker", "music", "office", "strings", "machine", "instrument"),
    ),
)


def describe_picture(text: str, caption: str) -> str:
    """Write one line about a history item: its caption, and its text before it where the caption does not say it; empty without either."""
    text, caption = flatten_text(text), flatten_text(caption)
    return caption if text.lower() in caption.lower() else ": ".join(filter(None, [text, caption]))


def build_preference_prompt(
    pictures: Sequence[str], *, prompt_style: PromptStyle, num_keywords: int, attribute: str = "", candidates: Sequence[str] = ()
) -> str:
    """Build the question for a person's keywords, without its prefix: about everything, about one attribute, or a choice among candidates."""
    about = f" about {attribute}" if attribute else ""
    choice = f"Candidates: {', '.join(candidates)}\n" if candidates else ""
    if prompt_style == "few_shot":
        return f"Pictures: {'; '.join(pictures)}\n{choice}Keywords{about}:"
    listed = "\n".join(f"{number}. {picture}" for number, picture in enumerate(pictures))
    what = "Choose from the candidates the" if candidates else "Give"
    return f"A person liked these pictures:\n{listed}\n{choice}{what} {num_keywords} keywords{about} that describe this person's interests."


def build_examples() -> str:
    """Build the task and the worked examples that `few_shot` puts in front."""
    blocks = [
        build_preference_prompt(pictures, prompt_style="few_shot", num_keywords=len(keywords)) + f" {', '.join(keywords)}"
        for pictures, keywords in EXAMPLES
    ]
    return "".join(f"{block}\n\n" for block in [FEW_SHOT_TASK, *blocks])


def wrap_preference_prompt(prompt: str, language_model: LanguageModel, *, prompt_style: PromptStyle) -> tuple[str, str]:
    """Return (prefix, rest) of the question as the model reads it."""
    return (build_examples(), prompt) if prompt_style == "few_shot" else language_model.split_chat(SYSTEM, prompt)


def build_soft_prompt(pictures: Sequence[str]) -> str:
    """Build the prompt behind which the trainable vectors stand."""
    return f"A person liked these pictures: {'; '.join(pictures)}. What this person likes:"


def wrap_soft_prompt(prompt: str, language_model: LanguageModel, *, prompt_style: PromptStyle) -> str:
    """Return the soft prompt as the model reads it; it has no shared prefix, for the trained one stands before all of it."""
    return prompt if prompt_style == "few_shot" else "".join(language_model.split_chat(SOFT_SYSTEM, prompt))


def write_image_prompt(target: Sequence[str], preference: Sequence[str], *, style_weight: int, budget: TextBudget = UNBOUNDED) -> str:
    """Write the diffusion model's prompt: target keywords, then the preference keywords `style_weight` times, comma separated.

    The first target keyword is the item's text, which is shortened where it would push the preference off the end.
    """
    text = ", ".join([*target, *[*preference] * style_weight])
    return budget.fit_beginning(text, target[0]).text if target else text
