"""Where a drawn image lies among all drawings of its thing: nearest to whose, and nearer to its own truth or to its rival's.

Not in the paper. The drawings are the catalogue's items with the truth's concept; the rival is the truth of the case that a matched pair
shares everything with but the artists. Each distance is measured twice: by the judge's features, and pixel by pixel.
Shapes: B images, D feature width, N drawings, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.inputs import Task
from pipeline.metrics.matched_pairs import compute_pair_choice

MEASURES = ("judge", "pixels")
DISTANCES = tuple(f"{to}_{measure}" for to in ("to_truth", "to_rival") for measure in MEASURES)  # kept beside the scores, and no scores themselves
STYLES = ("named_style", *(f"nearest_style_{measure}" for measure in MEASURES))  # so are these: the first that there is says whose style an image has
PIXELS = 64  # px, side at which images are compared pixel by pixel
Look = Mapping[str, np.ndarray]  # an image's vector by measure


def locate_image(task: Task, own: Look, looks: Mapping[str, Look]) -> dict[str, Any]:
    """Return, by measure, the distance to the truth and to the rival's truth, the style of the nearest drawing, and whether that is the truth."""
    found: dict[str, Any] = {}
    truth_id = task.truth_id
    for measure in own:
        distance_of = {item_id: compute_distance(own[measure], look[measure]) for item_id, look in looks.items()}
        drawings = [(style, item_id) for style, item_id in task.drawings if item_id in distance_of]
        if truth_id in distance_of and len(drawings) > 1:
            style, nearest = min(drawings, key=lambda drawing: (distance_of[drawing[1]], drawing[1] == truth_id))  # a tie counts against the truth
            found |= {f"nearest_truth_{measure}": float(nearest == truth_id), f"nearest_style_{measure}": style}
        if truth_id in distance_of and task.rival_id in distance_of:
            found |= {f"to_truth_{measure}": distance_of[truth_id], f"to_rival_{measure}": distance_of[task.rival_id]}
    return found


def compute_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean squared difference of two vectors."""
    return float(np.square(first.astype(np.float64) - second.astype(np.float64)).mean())


def choose_pairs(tasks: Sequence[Task], values: Mapping[Any, Mapping[str, Any]]) -> dict[Any, dict[str, float]]:
    """Return each matched pair's choice by measure, under the (method, case_id) of its first case: a pair counts once.

    The same image twice is a tie, whatever rounding makes of its distances.
    """
    task_of = {(task.method, task.case_id): task for task in tasks}
    chosen: dict[Any, dict[str, float]] = {}
    for key, task in task_of.items():
        partner_key = (task.method, task.partner_id)
        if task.partner_id is None or task.case_id > task.partner_id or not {key, partner_key} <= values.keys():
            continue
        first, second = values[key], values[partner_key]
        choices = {}
        for measure in MEASURES:
            names = [f"{to}_{measure}" for to in ("to_truth", "to_rival")]
            numbers = [row.get(name) for row, order in ((first, 1), (second, -1)) for name in names[::order]]
            if None not in numbers:
                is_tie = task.digest == task_of[partner_key].digest
                choice_P = compute_pair_choice(np.array(numbers, dtype=np.float64).reshape(1, 2, 2))
                choices[f"pair_choice_{measure}"] = 0.5 if is_tie else float(choice_P[0])
        chosen[key] = choices
    return chosen
