"""Parts of one computation side by side, on threads: what a training does with them is needed in this process, so no copy of it can compute them.

Torch releases the interpreter while it computes. A caller cuts its work in a way that does not depend on the machine; then nor do the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.engine import Current

CHANGES_NO_RESULT = True
Part = TypeVar("Part")
Result = TypeVar("Result")


def compute_side_by_side(compute: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return what `compute` makes of every part, in their order; as many at a time as there would be copies of this process, so one on a GPU."""
    workers = min(Current.workers, len(parts))
    if workers < 2:
        return [compute(part) for part in parts]
    with ThreadPoolExecutor(workers) as threads:  # ended each time: a process with threads must not be forked
        return list(threads.map(compute, parts))
