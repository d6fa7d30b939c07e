"""What becomes of the drawn cases of a method: the rows of its table, and its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def build_generated(name: str, values: Mapping[str, dict[str, Any]]) -> list[dict[str, object]]:
    """Return the rows of the generated table."""
    return [{"method": name, "case_id": case_id, "image": {"bytes": value["image"], "path": None}} for case_id, value in values.items()]


def summarise_drawn(values: Mapping[str, dict[str, Any]], *, num_cut: int = 0) -> dict[str, float]:
    """Return the number of images, of those with a shortened prompt if there are any, and the mean of every figure that the method gives of them."""
    figures: dict[str, list[float]] = {}
    for value in values.values():
        for fact in value["facts"]:
            figures.setdefault(fact["name"], []).append(fact["value"])
    cut = {"num_cut": num_cut} if num_cut else {}
    return {"num_images": len(values), **cut, **{name: math.fsum(noted) / len(noted) for name, noted in figures.items()}}
