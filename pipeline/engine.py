"""What computes the batches of a map over rows: this process and copies of it, or the workers of a Ray cluster, in any order.

All compute the same batches with the same function, so that a row's bytes do not depend on it. `runtime.engine` chooses, for the whole
process; a worker itself always computes locally. Only with `ray` is Ray imported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.rows import Row

CHANGES_NO_RESULT = True


class Current:
    """What is chosen in this process; a worker of a cluster takes a GPU where this process computes on one."""

    engine: str = "local"
    address: str | None = None
    needs_gpu: bool = False
    workers: int = 1  # copies of this process


def choose_engine(engine: str, address: str | None, *, needs_gpu: bool, workers: int = 1) -> None:
    """Choose for all maps to come; ValueError if Ray is asked for and not installed."""
    if engine == "ray" and find_spec("ray") is None:
        raise ValueError("runtime.engine is ray, but the package ray is not installed; `make setup EXTRAS=cluster` installs it.")
    Current.engine, Current.address, Current.needs_gpu, Current.workers = engine, address, needs_gpu, workers


def compute_batches(
    batches: Sequence[Sequence[Row]],
    compute: Callable[[list[Row]], Any],
    *,
    label: str,
    in_copies: bool = True,
    prepare: Callable[[], object] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield every batch's place in `batches` and what `compute` makes of it, as the batches are finished.

    `in_copies`: of this process as well; `prepare` loads what they share.
    """
    if Current.engine == "local" or not batches:
        yield from _compute_here(batches, compute, workers=Current.workers if in_copies else 1, prepare=prepare)
        return
    from pipeline.cluster.pool import open_pool  # late: it needs an extra

    yield from open_pool(Current.address, needs_gpu=Current.needs_gpu).run(batches, compute, label=label)


def _compute_here(
    batches: Sequence[Sequence[Row]], compute: Callable[[list[Row]], Any], *, workers: int, prepare: Callable[[], object] | None
) -> Iterator[tuple[int, Any]]:
    """Compute batches in this process, and in copies of it where there are some and enough to do; a server's threads make no copies."""
    workers = min(workers, len(batches) - (prepare is None)) if threading.current_thread() is threading.main_thread() else 1
    if workers > 1:
        from pipeline.forks import compute_in_copies

        yield from compute_in_copies(len(batches), lambda index: compute(list(batches[index])), workers=workers, prepare=prepare)
    else:
        for index, batch in enumerate(batches):
            yield index, compute(list(batch))
