"""What LaVIT is asked: words and pictures in one line. How the paper asks it is not told; these words are ours, the order of parts is LaVIT's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pipeline.models.lavit.language import Part

LIKED = "Pictures that this user likes:"
WANTED = "A picture of {title} in their style, made from this one:"
WANTED_ALONE = "A picture of {title}, made from this one:"


def write_prompt(title: str, reference: Tensor, history: Sequence[Tensor]) -> list[Part]:
    """Write a prompt of the reference's text and codes, and of the codes of liked pictures, the newest last; without any, nothing is said of them."""
    liked: list[Part] = [LIKED, *history] if len(history) else []
    wanted = (WANTED if len(history) else WANTED_ALONE).format(title=title)
    return [*liked, wanted, reference]
