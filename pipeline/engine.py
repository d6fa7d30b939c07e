"""What computes the batches of a map over rows: this process, one after the other, or the workers of a Ray cluster, in any order.

Both compute the same batches with the same function, so that a row's bytes do not depend on it. `runtime.engine` chooses, for the whole
process; a worker itself always computes locally. Only with `ray` is Ray imported.
"""

from __future__ import annotations

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


def choose_engine(engine: str, address: str | None, *, needs_gpu: bool) -> None:
    """Choose for all maps to come; ValueError if Ray is asked for and not installed."""
    if engine == "ray" and find_spec("ray") is None:
        raise ValueError("runtime.engine is ray, but the package ray is not installed; `make setup EXTRAS=cluster` installs it.")
    Current.engine, Current.address, Current.needs_gpu = engine, address, needs_gpu


def compute_batches(batches: Sequence[Sequence[Row]], compute: Callable[[list[Row]], Any], *, label: str) -> Iterator[tuple[int, Any]]:
    """Yield every batch's place in `batches` and what `compute` makes of it, as the batches are finished."""
    if Current.engine == "local" or not batches:
        for index, batch in enumerate(batches):
            yield index, compute(list(batch))
        return
    from pipeline.cluster.pool import open_pool  # late: it needs an extra

    yield from open_pool(Current.address, needs_gpu=Current.needs_gpu).run(batches, compute, label=label)
