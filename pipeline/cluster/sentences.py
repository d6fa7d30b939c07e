"""What goes wrong on a worker, as our own sentences: which rows, on which node, why."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cluster.worker import Failure
from pipeline.memory import advise
from pipeline.rows import Row

CHANGES_NO_RESULT = True
NAMED_KEYS = 4  # of a batch that fails


def explain_deaths(rows: Sequence[Row], deaths: int, stage: str) -> str:
    """Return the sentence for a batch that ends one worker after the other."""
    return (
        f"{name_rows(rows)}: {deaths} workers were killed while they computed this batch, "
        f"most likely by the system because memory ran out; {advise(stage)}."
    )


def name_rows(rows: Sequence[Row]) -> str:
    """Name the rows of a batch by their keys."""
    keys = list(dict.fromkeys(row.key if isinstance(row.key, str) else " ".join(row.key) for row in rows))
    if len(keys) <= NAMED_KEYS:
        return f"row{'s' if len(keys) > 1 else ''} {', '.join(keys)}"
    return f"rows {keys[0]} to {keys[-1]} ({len(keys)} of them)"


def raise_failure(failure: Failure, where: str) -> None:
    """Raise what a worker has met: as a ValueError what the world has caused, else with the worker's own traceback."""
    if failure.sentence is not None:
        raise ValueError(f"{where}: {failure.sentence}") from None
    error = RuntimeError(f"{where}: {failure.summary}")
    error.add_note(f"on the worker:\n{failure.traceback}")
    raise error from None


def explain_start(error: Exception) -> str | None:
    """Return why a worker's process could not load our code, as a sentence; None if it was killed."""
    text = str(error)
    if "ModuleNotFoundError" in text or "ImportError" in text:
        return f"{last_line(error)}; the project's folder and its packages must be there on every node (docs/cluster.md)."
    if "RuntimeEnvSetupError" in type(error).__name__ or "runtime_env" in text:
        return f"{last_line(error)}; docs/cluster.md says what a node needs."
    return None


def last_line(error: Exception) -> str:
    """Return the last line of an error that holds a traceback."""
    return next((line.strip().rstrip(".") for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
