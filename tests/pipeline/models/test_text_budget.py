"""What a text encoder reads of long titles. Run: pytest tests/pipeline/models/test_text_budget.py"""

from __future__ import annotations

import pytest
from transformers import CLIPTokenizer

from pipeline.models.text_budget import TextBudget, budget_open_clip, budget_tokenizer
from tests.tiny_models import NUM_TOKENS, save_clip_tokenizer

KEYWORDS = ", neon, floral"
TITLE = "Women Summer Boho Floral Print Dress - Plus Size, with Pockets"
WORDS = TextBudget(lambda text: len(text.replace(",", "").split()) + 2, 8)  # a word is a token, two more at start and end


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return save_clip_tokenizer(tmp_path_factory.mktemp("clip") / "tokenizer")


def test_a_title_is_shortened_at_a_word_and_everything_behind_it_is_kept() -> None:
    fitted = WORDS.fit_beginning(f"{TITLE}{KEYWORDS}", TITLE)
    assert (fitted.text, fitted.title, fitted.is_cut) == ("Women Summer Boho Floral, neon, floral", "Women Summer Boho Floral", True)


@pytest.mark.parametrize("title", ["hammer", "", "a  b", "Women Summer Boho Floral"])
def test_a_text_that_is_read_whole_stays_as_it_is(title: str) -> None:
    fitted = WORDS.fit_beginning(f"{title}{KEYWORDS}", title)
    assert (fitted.text, fitted.is_cut) == (f"{title}{KEYWORDS}", False)


def test_nothing_hangs_loose_where_a_title_was_cut() -> None:
    assert WORDS.fit("one two three four, - ( five six seven").text == "one two three four"


def test_a_title_keeps_its_first_word_when_keywords_alone_are_too_many() -> None:
    fitted = WORDS.fit_beginning("Dress red" + ", neon" * 9, "Dress red")
    assert (fitted.text, fitted.is_cut) == ("Dress" + ", neon" * 9, True)


def test_a_title_keeps_a_quarter_of_the_tokens_when_keywords_alone_are_too_many() -> None:
    budget = TextBudget(WORDS.count_tokens, 20)
    assert budget.fit_beginning(TITLE + ", neon" * 30, TITLE).title == "Women Summer Boho"


def test_the_models_own_tokenizer_counts(letters: CLIPTokenizer) -> None:
    budget = budget_tokenizer(letters)  # one token a letter, 12 with start and end
    assert budget.fit_beginning("ab cd ef gh, xyz", "ab cd ef gh").text == "ab cd ef, xyz"
    assert budget.count_tokens("ab cd ef, xyz") == NUM_TOKENS
    assert budget.reads("abcdefghij")
    assert not budget.reads("abcdefghijk")


def test_writing_without_spaces_is_cut_between_its_signs() -> None:
    budget = TextBudget(len, 12)
    assert budget.fit_beginning("复古碎花连衣裙女夏季新款, neon", "复古碎花连衣裙女夏季新款").text == "复古碎花连衣, neon"


def test_an_address_that_fills_the_encoder_alone_is_cut_anywhere() -> None:
    budget = TextBudget(len, 20)
    assert budget.fit_beginning("https://a.example/b/c/d/e/f, neon", "https://a.example/b/c/d/e/f").text == "https://a.exam, neon"


def test_both_kinds_of_open_clip_tokenizer_say_what_they_read(letters: CLIPTokenizer) -> None:
    class Simple:
        context_length = 5

        def encode(self, text: str) -> list[str]:
            return text.split()

    class Wrapped:
        context_length = 6
        tokenizer = letters

    assert budget_open_clip(Simple()).fit("a b c d").text == "a b c"
    assert budget_open_clip(Wrapped()).fit("a b c d e f").text == "a b c d"
