"""Which names say something: `red_wool-hat` does; `IMG_0001`, `Screenshot 2024-01-31`, a UUID, a hash and a bare number do not.

A name that says nothing must not become a prompt or a part of a text that is embedded: the caption of the picture stands in for it.
Every rule is about kinds of words: a run of letters counts as a word unless it is what cameras, messengers and shops put before a number,
or looks drawn at random (hexadecimal digits, letters and digits in turn, no vowel).
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath

from pipeline.data.picture_names import SUFFIXES

NAMELESS = """
    img imgs image images pic pics photo photos foto fotos bild imagen imagem immagine untitled unnamed unknown download downloads screenshot
    screenshots dsc dscn dscf dcim pict cimg imgp imag kimg mg mvi mvimg pxl gopr tmp temp null none nan 图片 照片 截图 画像 写真 사진 фото
    изображение unbenannt sans titre sin título senza titolo без названия имени 無題 无标题 未命名 名称未設定 제목 없음
"""  # say nothing of a picture, with a number or without
COUNTED = """
    picture pictures scan scans frame file thumb thumbnail sam vid mov gopro dji wa copy kopie copie edited edit final original crop cropped
    resized small large new test sku asin ean upc isbn gtin ref item items product products prod article artikel asset category categories cate
    cid pid uid uuid guid md5 sha id ids no nr num number code class cls cluster label group type abc xyz na at am pm jpg jpeg png gif webp bmp
    of von de di copia copie копия 副本 コピー main front side hero pexels unsplash giphy tumblr
    kategorie categoría catégorie categoria категория gruppe produkt produit producto товар 商品 类目 類別 カテゴリ アイテム 상품
"""  # say nothing beside a number; alone they may be the thing that is shown
NAMELESS_WORDS = frozenset(NAMELESS.split())
COUNTED_WORDS = NAMELESS_WORDS | frozenset(COUNTED.split())
DATED = re.compile(  # names that say nothing, whatever follows the date or the number: an app's name, a person
    r"\s*(screen[ _-]?shots?|screen[ _-]?cap(ture)?|bildschirmfoto|captura (de|da) (pantalla|tela)|capture d.?[ée]cran|schermata|schermafbeelding|"
    r"снимок экрана|スクリーンショット|スクショ|屏幕截图|屏幕快照|截屏|微信图片|mmexport|whatsapp|signal|telegram|"
    r"fb_img|received|snapchat|zrzut ekranu|skärmavbild|schermafdruk|camscanner|adobe[ _-]?scan|.{1,20} whatsapp|telegram-cloud|messenger_creation|"
    r"pxl_|comfyui|chatgpt image.{0,10}|gemini_generated|videocapture|adobestock|shutterstock|istockphoto|ezgif)\D{0,15}\d{2}",
    re.IGNORECASE,
)
UUID = re.compile(r"\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?", re.IGNORECASE)
HEX = re.compile(r"(?=[a-f]*\d)[0-9a-f]{6,}|[0-9a-f]{16,}", re.IGNORECASE)
PARTS = re.compile(r"\s*[,;|/>]\s*")  # of a category
TOKENS = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?")
LETTERS = re.compile(r"[^\W\d_]+")
PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")  # of a name in camel case
VOWELS = frozenset("aeiouy")
LONGEST_WORD = 40  # letters
LONG_NUMBER = 8  # digits; a shorter one may be a size or a year


def read_file_name(stem: str) -> str:
    """Return the words of a file's name without its suffix; empty if it says nothing."""
    text = unicodedata.normalize("NFC", stem)
    return " ".join(text.replace("_", " ").replace("-", " ").split()) if says_something(text) else ""


def keep_text(text: str) -> str:
    """Return what an item is called, or nothing where it is only a file's name, a number or a code."""
    text = text.strip()
    name = PurePath(text)
    return text if says_something(name.stem if name.suffix.lower() in SUFFIXES else text) else ""


def drop_codes(category: str) -> str:
    """Return a category without its parts that are codes; one without codes as it is."""
    parts = PARTS.split(category)
    kept = [part for part in parts if says_something(part)]
    return category if len(kept) == len(parts) else ", ".join(kept)


def drop_long_codes(text: str) -> str:
    """Return a text without the hashes and the long numbers in it."""
    return " ".join(word for word in text.split() if not is_long_code(word.strip(".,;:()[]#")))


def says_something(text: str) -> bool:
    """Say whether there is a word in a text."""
    text = unicodedata.normalize("NFC", text)
    if DATED.match(text):
        return False
    counted = any(char.isdigit() for char in text)
    nothing = COUNTED_WORDS if counted else NAMELESS_WORDS
    tokens = (token for token in TOKENS.findall(UUID.sub(" ", text)) if len(token) > 1 or not (counted and token.isascii()))
    return any(is_word(token, nothing) for token in tokens)


def is_word(token: str, nothing: frozenset[str]) -> bool:
    """Say whether a run of letters and digits is, or begins with, a word that is none of `nothing`."""
    runs = LETTERS.findall(token)
    if not runs or token.lower() in nothing or HEX.fullmatch(token):
        return False
    if not "".join(runs).isascii():
        return any(run not in nothing for run in runs)
    if any(char.isdigit() for char in token):  # `shirt2` is a word with a number; `x1`, `DSC01234` and `B07XJ8C8F5` are none
        return len(re.findall(r"\d+", token)) == 1 and len(runs[0]) >= 3 and has_vowel(runs[0]) and is_word(runs[0], nothing)
    return not looks_random(token)


def looks_random(word: str) -> bool:
    """Say whether letters look drawn at random: many without a vowel, or large and small ones in turn."""
    pieces = PIECES.findall(word)
    mixed = len(pieces) > 2 and sum(map(len, pieces)) < 3 * len(pieces)
    return mixed or len(word) > LONGEST_WORD or (len(word) >= 5 and not has_vowel(word))


def has_vowel(word: str) -> bool:
    """Say whether a word has a vowel."""
    return not VOWELS.isdisjoint(word.lower())


def is_long_code(word: str) -> bool:
    """Say whether a word of a text is without doubt a hash or a number of an article."""
    digits = sum(char.isdigit() for char in word)
    return (
        bool(UUID.fullmatch(word))
        or (word.isdigit() and digits >= LONG_NUMBER)
        or (len(word) >= 12 and digits > 0 and HEX.fullmatch(word) is not None)
    )
