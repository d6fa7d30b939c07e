"""What people write into the cells of tables: words that mean "missing", letters in two forms, numbers that a spreadsheet has rounded."""

from __future__ import annotations

import re
import unicodedata

# what spreadsheets, databases, pandas and people write for a value that is not there, in lower case; words that may be a title are not among them
SPELLINGS = """
na n/a n.a. n.a #n/a #na <na> pd.na nan -nan nat nil none null (null) <null> [null] <none> undefined unknown tbd \\n 1.#qnan -1.#ind
(blank) (empty) (leer) (vide) (vacío) (vuoto) (пусто) (空白) (空) [] {} "" '' - -- --- ---- – — − ? . ... … 0000-00-00 -9223372036854775808
#value! #ref! #name? #div/0! #null! #num! #calc! #spill! #field! #nv #n/d #н/д #wert! #bezug! #zahl! #valeur! #nom? #nombre! #¡valor! #¡ref! #¡num!
#¿nombre? #valor! #nome? #arvo! #знач! #ссылка! #имя? #число!
k.a. n/d n.d. s/d s.d. н/д нет 无 無 暂无 未知 なし 不明 없음
"""
PHRASES = ("0000-00-00 00:00:00", "not available", "not applicable", "no data", "keine angabe", "k. a.", "sin datos", "нет данных", "#n/a n/a")
MISSING_WORDS = frozenset([*SPELLINGS.split(), *PHRASES])
LONGEST_WORD = max(map(len, MISSING_WORDS))
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u200e\u200f"  # byte order mark, zero-width space, (non-)joiners, directions: copied along with words
EDGES = INVISIBLE + "".join(char for char in map(chr, range(0x3001)) if char.isspace())
ROUNDED = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d{2,3}")


def normalise_name(text: str) -> str:
    """Return the text with composed letters (NFC) and nothing invisible around it: é is one character, whichever system wrote it."""
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text.strip(EDGES))


def clean_value(text: str) -> str:
    """Return a cell's text, normalised; empty where it is a word that means "missing". `="007"` is how spreadsheets are told that 007 is a text."""
    text = normalise_name(text)
    if text.startswith('="') and text.endswith('"') and len(text) >= len('=""'):
        text = text[len('="') : -1].replace('""', '"')
    return "" if len(text) <= LONGEST_WORD and text.casefold() in MISSING_WORDS else text


def is_rounded(text: str) -> bool:
    """Say whether a text is what spreadsheets make of a long number, 1.23E+11: it may stand for many."""
    return ROUNDED.fullmatch(text) is not None


def simplify(name: str) -> str:
    """Return a column's name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())
