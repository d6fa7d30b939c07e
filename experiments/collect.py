"""From finished DVC experiments to results: look the planned runs up, read each one once, say which are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.plan import Plan
from experiments.results import RunResult, read_result
from experiments.store import Stored, open_experiment


def read_results(plans: Sequence[Plan], stored: Mapping[str, Stored], *, root: Path) -> dict[str, RunResult]:
    """Return the results of the finished plans by run name; runs with one fingerprint share one object."""
    read: dict[str, RunResult] = {}
    for fingerprint in dict.fromkeys(plan.fingerprint for plan in plans):
        if fingerprint in stored:
            with open_experiment(stored[fingerprint], root=root) as fetch:
                read[fingerprint] = read_result(stored[fingerprint].name, fetch)
    return {plan.run.name: read[plan.fingerprint] for plan in plans if plan.fingerprint in read}
