"""What the drawing model is conditioned on in training. Run: python -m pytest tests/embedded/test_prompts.py"""

from __future__ import annotations

import torch

from embedded import prompts
from embedded.prompts import ConditionBank, draw_conditions
from embedded.texts import MAX_TOKENS, TEXT_WIDTH

PAIR, NAME, STYLE, EMPTY = 100.0, 200.0, 300.0, 400.0


def build_bank() -> ConditionBank:
    """Build a bank whose states say where they come from: source, then the number of the pair, the concept or the style."""

    def fill(source: float, rows: int, texts: int) -> torch.Tensor:
        return (source + torch.arange(rows).view(rows, 1, 1, 1)).expand(rows, texts, MAX_TOKENS, TEXT_WIDTH).half()

    return ConditionBank(fill(PAIR, 8, 7), fill(NAME, 4, 3), fill(STYLE, 6, 3), torch.full((MAX_TOKENS, TEXT_WIDTH), EMPTY).half())


def test_every_block_speaks_of_the_rows_own_pair() -> None:
    bank, generator = build_bank(), torch.Generator().manual_seed(0)
    pairs = torch.tensor([[0, 0], [0, 5], [1, 1], [1, 2], [2, 3], [2, 4], [3, 0], [3, 5]])
    kinds = set()
    for _ in range(300):
        chosen = torch.randint(len(pairs), (5,), generator=generator)
        drawn = draw_conditions(bank, chosen, pairs[chosen], generator)
        blocks = drawn.view(5, -1, MAX_TOKENS, TEXT_WIDTH)
        assert blocks.shape[1] in prompts.BLOCK_COUNTS
        for row, values in zip(chosen.tolist(), blocks[:, :, 0, 0].tolist(), strict=True):
            concept, style = pairs[row].tolist()
            assert set(map(round, values)) <= {round(PAIR + row), round(NAME + concept), round(STYLE + style), round(EMPTY)}
            kinds.add(tuple(round(value) // 100 for value in values))
    assert {(1,), (2,), (4,), (1, 1), (2, 1), (2, 3), (2, 3, 3), (4, 4)} <= kinds
    assert (3,) not in kinds  # a style alone names nothing to draw
