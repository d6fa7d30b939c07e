"""Other people's words on a terminal. Run: python -m pytest tests/pipeline/test_terminal.py"""

from __future__ import annotations

import ast
import io
import logging
import unicodedata
from pathlib import Path

import pytest

from pipeline.endings import fail
from pipeline.runtime import ShownFormatter
from pipeline.terminal import say, show

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07\x1b[31mred", r"\x1b]0;owned\x07\x1b[31mred"),
        ("a\nerror: b\r\tc", r"a\nerror: b\r\tc"),
        ("\x9b2J\x7f\x85", r"\x9b2J\x7f\x85"),
        ("gnp.\u202eexe\u202c", r"gnp.\u202eexe\u202c"),
        ("\u2066a\u2069\u200e\u200f\u061c", r"\u2066a\u2069\u200e\u200f\u061c"),
        ("pay\u200bpal\u2060\ufeff\u00ad", r"pay\u200bpal\u2060\ufeff\xad"),
        ("a\u200db\u200c", r"a\u200db\u200c"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("\U000e0041\U000e007f", r"\U000e0041\U000e007f"),
        ("\udc80", r"\udc80"),
        ("\u3164\u034f", r"\u3164\u034f"),
    ],
)
def test_hidden_characters_are_written_out(text: str, shown: str) -> None:
    assert show(text) == shown


@pytest.mark.parametrize(
    "text", ["Mug, blue\u00a00.3\u3000l ñ é 新加卷", "می\u200cخواهم", "👩\u200d🍳 ❤\ufe0f\u200d🔥", "क\u094d\u200dष", r"C:\x1b", "مرحبا שלום", ""]
)
def test_what_people_write_stays(text: str) -> None:
    assert show(text) == text


def test_no_control_character_of_any_kind_is_left() -> None:
    everything = "".join(map(chr, range(0x11000))) + "".join(map(chr, range(0xE0000, 0xE0100)))
    left = {unicodedata.category(c) for c in show(everything)}
    assert not left & {"Cc", "Cs", "Zl", "Zp"}
    assert {c for c in show(everything) if unicodedata.category(c) == "Cf"} <= {"\u200c", "\u200d"}


def test_a_line_is_one_line_in_any_encoding() -> None:
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    say("é\x1b\nb", 3, file=terminal)
    assert raw.getvalue() == b"\\xe9\\x1b\\nb\n3\n"


def test_an_error_is_one_line_without_escapes_for_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail("x.csv: \x1b[2J\u202e is bad:\n\tMissing key")
    assert capsys.readouterr().err == "error: x.csv: \\x1b[2J\\u202e is bad: Missing key\n"


def test_what_libraries_log_is_escaped() -> None:
    record = logging.LogRecord("PIL", logging.WARNING, "f", 1, "file %s", ("\x1b[2J\nerror: no",), None)
    assert ShownFormatter("%(name)s: %(message)s").format(record) == r"PIL: file \x1b[2J\nerror: no"


def list_prints(path: Path) -> list[int]:
    """Return the lines of a module that call print."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"]


def test_nothing_is_printed_but_by_say() -> None:
    sources = [path for folder in ("pipeline", "stages", "experiments") for path in (REPO / folder).rglob("*.py")]
    printing = {path.relative_to(REPO).as_posix() for path in sources if list_prints(path)}
    assert printing == {"pipeline/terminal.py"}
