"""Templates of prompts with a pseudo-word in them."""

from __future__ import annotations

TEXT, STYLE = "{text}", "{style}"  # the two holes of a template


def check_template(template: str) -> None:
    """Raise ValueError if a template lacks a hole."""
    for hole in (TEXT, STYLE):
        if hole not in template:
            raise ValueError(f"template is {template!r}, but it must hold {hole}.")
