"""A language model's reply -> keywords, strictly: what does not look like a keyword is dropped, never repaired (eq. 6).

Replies come as lists of many kinds: separated by commas of any script, by other signs or by lines, numbered, in Markdown or JSON, behind a
heading, a polite word or a thought (`<think>…</think>`). All of them are read; running text is not.
"""

from __future__ import annotations

import json
import re
import unicodedata

MAX_WORDS = 3
MAX_CHARS = 40
MAX_IDEOGRAPHS = 8  # of a keyword in a script that writes no spaces; more is a sentence

THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
THOUGHT_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)  # of one that the template began
MARKS = re.compile(r"<\|[^|<>]*\|>")  # a chat template's
CIRCLED = re.compile("[\u2460-\u2473]")  # digits
FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
GREETING = re.compile(r"^(?:sure|certainly|of course|ok(?:ay)?)(?:[!.:,]\s*|\s*$)", re.IGNORECASE)
NAMES = "keywords?|tags|answer|list|output|results?|response|关键词|關鍵詞|キーワード"  # of a list
LABEL = re.compile(rf"^[\W_]*(?:[\w' ]{{0,40}}\b)?(?:{NAMES})\b[\w' ]{{0,20}}(?:\(.*?\))?[\W_]*?:[\W_]*", re.IGNORECASE)
KIND = re.compile(r"^(?:style|material|subject|object|theme|colou?r|mood)s?[*_\"']*:\s*", re.IGNORECASE)  # of a list that says what each is
ITEM = re.compile(r"^(?:[-*•●▪◦‣–—]+|[(\[]?\d{1,2}[.):\]](?=\s|[^\W\d])|\d{1,2}、)\s*")
SEPARATORS = re.compile(r"[,;、،؛|·・•‧]|\s/\s|\s(?=\(?\d{1,2}[.)]\s|\d{1,2}、|#)")
WEAK_SEPARATORS = re.compile(r"(?<=\w\w)/(?=\w\w)|\s-{1,3}\s|\s*[–—]\s*|\t")  # where a line has none of the others
EXPLANATION = re.compile(r"(?<=\w)[*_\"']*(?::|\s[-–—]\s).*")  # of an entry on a line of its own
ASIDE = re.compile(r"(?<=\w)\s*\([^()]*\)$")
SHAPE = re.compile(r"^[^\W_](?:[\w'’+&/.-]*[\w+])?(?: [^\W_](?:[\w'’+&/.-]*[\w+])?)*$")
IDEOGRAPHS = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
BOILERPLATE = frozenset(
    {"keyword", "keywords", "visual keywords", "picture", "image", "text", "none", "n/a", "unknown", "sure", "etc", "and more", "and", "json"}
)


def parse_keywords(reply: str, *, max_keywords: int) -> list[str]:
    """Return at most `max_keywords` lower-case keywords of 1 to 3 words, each once, in the reply's order; perhaps none."""
    keywords = dict.fromkeys(filter(None, (clean_keyword(part) for part in split_reply(strip_thought(reply)))))
    return list(keywords)[:max_keywords]


def strip_thought(reply: str) -> str:
    """Return the reply without what a model thinks before it; nothing is left of a thought that was cut off."""
    return THOUGHT_END.sub("", THOUGHT.sub("", reply))


def split_reply(reply: str) -> list[str]:
    """Split a reply into the parts of its list, whatever kind of list it is."""
    plain = MARKS.sub("\n", CIRCLED.sub(" 1. ", reply))
    text = FENCE.sub("", unicodedata.normalize("NFKC", plain)).strip()  # NFKC: full-width commas, colons and letters become plain ones
    if (listed := read_json_list(text)) is not None:
        return listed
    lines = [line for line in map(strip_label, text.splitlines()) if line]
    if len(lines) > 1 and lines[0].endswith(":"):  # a heading
        lines = lines[1:]
    if not lines:
        return []
    if SEPARATORS.search(ITEM.sub("", lines[0])) and not (len(lines) > 1 and ITEM.match(lines[0]) and ITEM.match(lines[1])):
        return SEPARATORS.split(lines[0])
    if len(lines) == 1:
        return WEAK_SEPARATORS.split(lines[0])
    return [part for line in lines for part in SEPARATORS.split(EXPLANATION.sub("", KIND.sub("", ITEM.sub("", line).lstrip("*_\"'"))))]


def strip_label(line: str) -> str:
    """Return a line without a polite word and without what the list is called at its start."""
    return LABEL.sub("", GREETING.sub("", line.strip())).strip()


def read_json_list(text: str) -> list[str] | None:
    """Return the strings of a reply in JSON, those of all its lists; None if it is no JSON."""
    if not text.startswith(("[", "{")):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return list_strings(found)


def list_strings(value: object) -> list[str]:
    """List the strings of a JSON value, without the names of an object's members."""
    if isinstance(value, str):
        return [value]
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else []
    return [text for part in inner for text in list_strings(part)]


def clean_keyword(part: str) -> str | None:
    """Return one part of a list in its plain form, or None if it is no keyword (too long, markup, boilerplate)."""
    bare = ASIDE.sub("", KIND.sub("", ITEM.sub("", part.strip())))
    keyword = " ".join(trim(bare).lower().removeprefix("and ").split())
    if not keyword or keyword in BOILERPLATE or len(keyword) > MAX_CHARS or len(keyword.split()) > MAX_WORDS:
        return None
    if len(IDEOGRAPHS.findall(keyword)) > MAX_IDEOGRAPHS:
        return None
    letters = "".join(char for char in keyword if not unicodedata.category(char).startswith("M"))  # vowel signs are part of a letter
    return keyword if SHAPE.match(letters) and any(char.isalpha() for char in keyword) else None


def trim(text: str) -> str:
    """Return a text from its first letter or digit to its last one, or to a plus or a vowel sign behind it."""
    start, stop = 0, len(text)
    while start < stop and not text[start].isalnum():
        start += 1
    while start < stop and not (text[stop - 1].isalnum() or text[stop - 1] == "+" or unicodedata.category(text[stop - 1]).startswith("M")):
        stop -= 1
    return text[start:stop]
