"""What becomes of the drawn cases of a method: the rows of its table, and its figures."""

from __future__ import annotations

import math

from pipeline.rows import MapResult


def build_generated(name: str, result: MapResult) -> list[dict[str, object]]:
    """Return the rows of the generated table."""
    return [{"method": name, "case_id": case_id, "image": {"bytes": value["image"], "path": None}} for case_id, value in result.values.items()]


def summarise_drawn(result: MapResult) -> dict[str, float]:
    """Return the number of images and the mean of every figure that the method gives of them."""
    figures: dict[str, list[float]] = {}
    for value in result.values.values():
        for fact in value["facts"]:
            figures.setdefault(fact["name"], []).append(fact["value"])
    return {"num_images": len(result.values), **{name: math.fsum(values) / len(values) for name, values in figures.items()}}
