"""What the figures of a run will not tell, because the data set is small; nothing here ends a run."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.feasibility.material import Material, Plan
from pipeline.metrics.protocol import CUTOFF, NUM_NEGATIVES
from pipeline.report.config import FEW_USERS, describe_few_users

CHANGES_NO_RESULT = True


def list_notes(material: Material, plan: Plan) -> Iterator[str]:
    """Yield a sentence for everything that a reader of the figures should know beforehand."""
    split = plan.configs["evaluation"].split
    scored = [case for case in material.cases if case["split"] == split]
    num_users = len({case["user_id"] for case in scored})
    if num_users < FEW_USERS:
        yield f"evaluation scores {num_users} {split} user{'s' if num_users > 1 else ''}. {describe_few_users(num_users)}"
    rivals = [len(material.digests.keys() - {*case["history"], case["reference_id"]}) for case in scored]
    if not any(rivals):
        yield "every scored user has seen every other item, so that no reference has a rival: it always ranks first, and ΔR says nothing; add items."
    elif min(rivals) < NUM_NEGATIVES:
        first = f", and R@{CUTOFF} is 1 for whoever has fewer than {CUTOFF}" if min(rivals) < CUTOFF else ""
        found = " to ".join(map(str, sorted({min(rivals), max(rivals)})))
        yield (
            f"a reference has {found} rivals (items that its user has not seen), fewer than the {NUM_NEGATIVES} that "
            f"are to be sampled: all of them are ranked{first}."
        )
