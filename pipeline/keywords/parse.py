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

THINKS = "(?:seed:)?(?:think|thinking|thought|reasoning|reflection|scratchpad)"
THOUGHT = re.compile(rf"<({THINKS})>.*?(?:</\1>|\Z)|([\[◁])think[\]▷].*?(?:\2/think[\]▷]|\Z)", re.DOTALL | re.IGNORECASE)
THOUGHT_END = re.compile(rf"\A.*(?:</{THINKS}>|[\[◁]/think[\]▷])", re.DOTALL | re.IGNORECASE)  # of one that the template began
CHANNELS = re.compile(  # of gpt-oss, whose marks a tokenizer may leave out
    r"\A(?:<\|start\|>assistant)?(?:<\|channel\|>)?analysis(?:<\|message\|>|(?=[A-Z])).*?"
    r"(?:assistant(?:<\|channel\|>)?final(?:<\|message\|>)?|\Z)",
    re.DOTALL,
)
ALOUD = re.compile(r"^[\W_]*(?:thinking|thoughts?|reasoning|analysis)[\w ]{0,20}[\W_]*:", re.IGNORECASE)  # a thought without marks
REFUSAL = re.compile(
    r"^\W*(?:i'?m (?:so |very )?sorry|(?:i am )?sorry|as an ai|i (?:can(?:not|['’]t)|am unable)|i apologi[sz]e|unfortunately|很?抱歉|对不起|申し訳)",
    re.IGNORECASE,
)
MARKS = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:unk|pad|start_of_turn|end_of_turn)>|\[/?INST\]")  # a chat template's
ROLES = frozenset({"assistant", "model", "ai", "bot", "user"})
NAMES = "keywords?|tags|answer|list|output|results?|response|assistant|关键词|關鍵詞|キーワード"  # of a list
TAGS = re.compile(rf"</?(?:final|{NAMES}|[ou]l|li|p|br|item)\s*/?>", re.IGNORECASE)  # around a list; others are no keywords
BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
CIRCLED = re.compile("[\u2460-\u2473]")  # digits
FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
GREETING = re.compile(
    r"^(?:sure|certainly|of course|ok(?:ay)?|好的|当然(?:可以)?|當然|没问题|はい|もちろん|claro|voici|gerne?)(?:[!.:,、。]\s*|\s*$)", re.IGNORECASE
)
LABEL = re.compile(rf"^[\W_]*(?:[\w' ]{{0,40}}\b)?(?:{NAMES})\b[\w' ]{{0,20}}(?:\(.*?\))?[\W_]*?:[\W_]*", re.IGNORECASE)
LEAD = re.compile(r"^(?:[\w ]{0,20}\b)?(?:keywords?|tags)\b[\w ]{0,20}?\b(?:are|be|include)\s+", re.IGNORECASE)  # the keywords are red, blue
KIND = re.compile(r"^(?:style|material|subject|object|theme|colou?r|mood)s?[*_\"']*:\s*", re.IGNORECASE)  # of a list that says what each is
NUMBER = r"[(\[]?\d{1,2}[.)\]]\s|\d{1,2}、|\(?[a-h]\)\s"
ITEM = re.compile(
    r"^(?:[-*•●▪◦‣–—・✓✔★☆►▶→>+]+\s*(?:\[[ xX]\])?|[(\[]?\d{1,2}[.):\]](?=\s|[^\W\d])|\d{1,2}、|\d{1,2}\s[-–—]\s"
    r"|\(?(?:[a-h]|[ivx]{1,4})[.)](?=\s))\s*",
    re.IGNORECASE,
)
SEPARATORS = re.compile(rf"[,;、،؛|·・•‧★☆]|\s[/&]\s|(?<=\w)#(?=\w)|\s(?={NUMBER}|#)")
IDEOGRAPH = "[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # of scripts that write no spaces
WEAK_SEPARATORS = re.compile(  # where a line has none of the others
    rf"(?<=\w\w)/(?=\w\w)|\s(?:-{{1,3}}|[+>~→]|[-=]>)\s|\s*[–—]\s*|\t|(?<={IDEOGRAPH})\s+(?={IDEOGRAPH})"
)
LIST_NAME = re.compile(r"^[^\W\d][^\d,;、،|:]{0,40}:(?!//)(?=[^:]*[,;、،])")  # in any language
EXPLANATION = re.compile(r"(?<=\w)[*_\"']*(?::|\s[-–—]\s).*")  # of an entry on a line of its own
ASIDE = re.compile(r"(?<=\w)\s*\([^()]*\)$")
SHAPE = re.compile(r"^[^\W_](?:[\w'’+&/.-]*[\w+])?(?: [^\W_](?:[\w'’+&/.-]*[\w+])?)*$")
IDEOGRAPHS = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
BOILERPLATE = frozenset(
    {
        "keyword", "keywords", "visual keywords", "no keywords", "picture", "image", "text", "none", "n/a", "unknown", "sure", "etc", "and more",
        "and", "json",
    }
)  # fmt: skip


def parse_keywords(reply: str, *, max_keywords: int) -> list[str]:
    """Return at most `max_keywords` lower-case keywords of 1 to 3 words, each once, in the reply's order; perhaps none."""
    keywords = dict.fromkeys(filter(None, (clean_keyword(part) for part in split_reply(strip_thought(reply)))))
    return list(keywords)[:max_keywords]


def strip_thought(reply: str) -> str:
    """Return the reply without what a model thinks before it; nothing is left of a thought that was cut off."""
    return THOUGHT_END.sub("", THOUGHT.sub("", CHANNELS.sub("", reply)))


def split_reply(reply: str) -> list[str]:
    """Split a reply into the parts of its list, whatever kind of list it is."""
    plain = MARKS.sub("\n", CIRCLED.sub(" 1. ", BOXED.sub(r"\1", TAGS.sub("\n", reply))))
    text = FENCE.sub("", unicodedata.normalize("NFKC", plain)).strip()  # NFKC: full-width commas, colons and letters become plain ones
    if REFUSAL.match(text):
        return []
    if (listed := read_json_list(text)) is not None:
        return listed
    lines = [line for line in map(strip_label, drop_thinking(text.splitlines())) if line]
    if len(lines) > 1 and (lines[0].endswith(":") or lines[0].casefold() in ROLES):  # a heading
        lines = lines[1:]
    if not lines:
        return []
    if all(line.startswith("|") for line in lines):  # a table
        return [cell for line in lines for cell in line.split("|")]
    first = LIST_NAME.sub("", ITEM.sub("", lines[0])).strip()
    has_several = SEPARATORS.search(first.rstrip(" ,;、،|"))  # else its last sign stands before the next line
    if has_several and not (len(lines) > 1 and ITEM.match(lines[0]) and ITEM.match(lines[1])):
        return split_end(SEPARATORS.split(first))
    if len(lines) == 1:
        return WEAK_SEPARATORS.split(lines[0])
    return [part for line in lines for part in SEPARATORS.split(EXPLANATION.sub("", KIND.sub("", ITEM.sub("", line).lstrip("*_\"'"))))]


def drop_thinking(lines: list[str]) -> list[str]:
    """Return the lines from the answer on, if they begin with a thought that says of itself that it is one."""
    if not lines or not ALOUD.match(lines[0]):
        return lines
    start = next((place for place, line in enumerate(lines) if place and LABEL.match(line)), len(lines))
    return lines[start:]


def split_end(parts: list[str]) -> list[str]:
    """Split the last of several parts where it is two, as in `red, green and blue`."""
    *others, last = [part for part in parts if part.strip(" .")] or [""]
    return [*others, *(last.split(" and ") if others and not last.strip().startswith("and ") else [last])]


def strip_label(line: str) -> str:
    """Return a line without a polite word and without what the list is called at its start."""
    return LEAD.sub("", LABEL.sub("", GREETING.sub("", line.strip()))).strip()


def read_json_list(text: str) -> list[str] | None:
    """Return the parts of a reply in JSON, or with JSON in it: those of the list that is called one, else of all; None if there is no JSON."""
    start, stop = min((place for place in map(text.find, "[{") if place >= 0), default=-1), max(map(text.rfind, "]}"))
    if start < 0:
        return None
    try:
        found = json.loads(text[start : stop + 1])
    except ValueError:
        return None
    if isinstance(found, dict):
        found = next((value for name, value in found.items() if re.fullmatch(NAMES, name, re.IGNORECASE)), found)
        if isinstance(found, dict) and found and all(isinstance(value, int | float) for value in found.values()):
            found = list(found)  # with a weight each
    return [part for text in list_strings(found) for part in SEPARATORS.split(text)] or None


def list_strings(value: object) -> list[str]:
    """List the strings of a JSON value, without the names of an object's members."""
    if isinstance(value, str):
        return [value]
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else []
    return [text for part in inner for text in list_strings(part)]


def clean_keyword(part: str) -> str | None:
    """Return one part of a list in its plain form, or None if it is no keyword (too long, markup, boilerplate)."""
    bare = ASIDE.sub("", KIND.sub("", ITEM.sub("", part.strip())))
    keyword = " ".join(trim(bare).lower().removeprefix("and ").removeprefix("or ").split())
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
