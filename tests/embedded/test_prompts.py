"""What the drawing model is conditioned on in training. Run: python -m pytest tests/embedded/test_prompts.py"""

from __future__ import annotations

import torch

from embedded import prompts
from embedded.prompts import ConditionBank, draw_conditions
from embedded.texts import MAX_TOKENS, TEXT_WIDTH, load_text_tower

PAIR, NAME, STYLE, EMPTY, LIST = 100.0, 200.0, 300.0, 400.0, 500.0


def build_bank() -> ConditionBank:
    """Build a bank whose states say where they come from: source, then the number of the pair, the concept or the style."""

    def fill(source: float, rows: int, texts: int) -> torch.Tensor:
        return (source + torch.arange(rows).view(rows, 1, 1, 1)).expand(rows, texts, MAX_TOKENS, TEXT_WIDTH).half()

    marks = torch.zeros(8, MAX_TOKENS, dtype=torch.bool)
    return ConditionBank(
        fill(PAIR, 8, 7), fill(LIST, 8, 1)[:, 0], marks, fill(NAME, 4, 3), fill(STYLE, 6, 3), torch.full((MAX_TOKENS, TEXT_WIDTH), EMPTY).half()
    )


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
            allowed = (PAIR + row, LIST + row, NAME + concept, STYLE + style, EMPTY)
            assert set(map(round, values)) <= set(map(round, allowed))
            kinds.add(tuple(round(value) // 100 for value in values))
    assert {(1,), (2,), (3,), (4,), (1, 1), (2, 1), (2, 3), (2, 3, 3), (4, 4), (5, 5), (5, 5, 5)} <= kinds


def test_marks_name_the_tokens_of_the_words() -> None:
    marks = prompts.mark_words("sea lion, neon, lion, pastel", ["sea lion", "pastel"])
    tokens = load_text_tower()[0].tokenize("sea lion, neon, lion, pastel")
    marked = [token for token, mark in zip(tokens, marks[1:], strict=False) if mark]
    assert marked == [token for word in ("sea lion", "pastel") for token in load_text_tower()[0].tokenize(word)]
    assert len(marks) == MAX_TOKENS


def test_rows_dwell_on_what_is_marked() -> None:
    marks = torch.zeros(64, MAX_TOKENS, dtype=torch.bool)
    marks[:, 3] = True
    block = torch.eye(MAX_TOKENS).expand(64, -1, -1)  # so that a mixture shows its weights
    weights = prompts.dwell_on(block, marks, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights.sum(-1), torch.ones(64, MAX_TOKENS))
    assert weights[:, :, 3].mean() > 4 * weights[:, :, 4:].mean()
