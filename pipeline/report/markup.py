"""Build HTML and SVG in which every string is escaped unless this module made it: data cannot become markup."""

from __future__ import annotations

import html

VOID_TAGS = {"img", "meta", "br", "hr", "line", "circle", "rect", "path", "polyline"}


class Markup(str):
    """Text that is already safe HTML; only `element`, `join` and constants of this package make it."""

    __slots__ = ()


Content = Markup | str | float | None


def escape(content: Content) -> Markup:
    """Return `content` as safe HTML: markup unchanged, None as nothing, everything else escaped."""
    if isinstance(content, Markup):
        return content
    return Markup("" if content is None else html.escape(replace_controls(str(content)), quote=True))


def replace_controls(text: str) -> str:
    """Replace control characters and lone surrogates, which no HTML page may hold, by a visible sign."""
    allowed = "\t\n"
    shown = "".join(c if c in allowed or (ord(c) >= 32 and ord(c) != 127 and not 0xD800 <= ord(c) <= 0xDFFF) else "\ufffd" for c in text)
    return shown


def element(tag: str, *children: Content, **attributes: Content) -> Markup:
    """Build one element; `class_` becomes `class`, `_` in other names `-`, and attributes that are None are left out."""
    parts = [f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"' for name, value in attributes.items() if value is not None]
    opening = f"<{tag}{''.join(parts)}>"
    if tag in VOID_TAGS and not children:
        return Markup(opening if tag in {"img", "meta", "br", "hr"} else f"{opening[:-1]}/>")
    return Markup(f"{opening}{join(*children)}</{tag}>")


def join(*children: Content) -> Markup:
    """Put contents one after the other."""
    return Markup("".join(escape(child) for child in children))
