"""Check what the project claims against the results of its experiments: `python -m experiments.check_claims`.

Writes docs/results/claims.json and prints a table. Claims that do not hold are written as they came out; only a missing
experiment is an error. No page is read: every figure comes from the scores on record (`experiments/records.py`).

Readings: "within 0.05 of" is "not worse by more than 0.05". A stage that came from the cache has no seconds, so the time claims look at the
default sizes under every seed and take the slowest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from experiments.catalogue import Experiment, get_experiment, list_runs
from experiments.claim_list import CLAIMS, MAX_SECONDS
from experiments.claim_rules import Claim, Evidence, Verdict
from experiments.entry import OUT, find_root, run_app
from experiments.plan import plan_runs, read_inputs
from experiments.records import FOLDER, Records
from experiments.results import RunResult
from experiments.runs import DEFAULT, SEED_POINTS
from pipeline.choice import RESET, list_chosen, read_choice
from pipeline.json_files import write_json
from pipeline.terminal import say

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Checked:
    """A claim with its verdict."""

    claim: Claim
    verdict: Verdict


@app.command()
def main() -> None:
    """Write docs/results/claims.json and print the claims as a table."""
    root = find_root()
    if choice := read_choice(root / "conf"):
        raise ValueError(f"the claims are about the default, and {' '.join(list_chosen(choice))} is chosen: make use ARGS={RESET}, then make claims.")
    needed = [get_experiment(name) for name in dict.fromkeys(claim.experiment for claim in CLAIMS)]
    plans = plan_runs(list_runs(needed), read_inputs(root), root=root)
    results = Records(root / OUT / FOLDER, root).read(plans)
    check_complete(needed, results)
    evidence = gather_evidence(results)
    checked = [Checked(claim, claim.check(evidence)) for claim in CLAIMS]
    write_json(root / OUT / "claims.json", [build_entry(entry) for entry in checked])
    say(*format_claims(checked))


def check_complete(needed: Sequence[Experiment], results: Mapping[str, RunResult]) -> None:
    """Raise ValueError with the make targets whose runs nobody has finished."""
    lacking = {experiment.name: [run.name for run in experiment.list_runs() if run.name not in results] for experiment in needed}
    gaps = [f"`make {name}` (not finished: {', '.join(runs)})" for name, runs in lacking.items() if runs]
    if gaps:
        raise ValueError(f"the claims need results that are missing; run {'; '.join(gaps)}.")


def gather_evidence(results: Mapping[str, RunResult]) -> Evidence:
    """Return the results with the share of held-out truths of the default run, and the seconds of the claimed stages by seed."""
    own = [results[point.run.name] for point in SEED_POINTS]
    seconds = {stage: {result.seed: result.stage_seconds[stage] for result in own if stage in result.stage_seconds} for stage in MAX_SECONDS}
    return Evidence(results, results[DEFAULT.name].held_out_share, seconds)


def build_entry(checked: Checked) -> dict[str, Any]:
    """Return a claim as it stands in claims.json."""
    claim, verdict = checked.claim, checked.verdict
    figure = verdict.figure
    return {
        "id": claim.name,
        "sentence": claim.sentence,
        "value": figure.value,
        "interval": None if figure.low is None or figure.high is None else [figure.low, figure.high],
        "n": figure.n,
        "seeds": list(verdict.seeds),
        "holds": verdict.holds,
        "threshold": verdict.threshold,
        "note": verdict.note,
        "source": f"{OUT.as_posix()}/{claim.experiment}.csv",
    }


def format_claims(checked: Sequence[Checked]) -> list[str]:
    """Return the claims as aligned lines, and how many hold."""
    lines = []
    for entry in checked:
        figure = entry.verdict.figure
        value = "–" if figure.value is None else f"{figure.value:.4g}"
        bounds = "" if figure.low is None or figure.high is None else f"[{figure.low:.4g}, {figure.high:.4g}]"
        mark = "holds   " if entry.verdict.holds else "DOES NOT"
        lines.append(f"{mark}  {value:>9} {bounds:<20} n {figure.n:<5} {entry.claim.sentence} ({entry.verdict.threshold})")
    num_held = sum(entry.verdict.holds for entry in checked)
    return [*lines, f"{num_held} of {len(checked)} claims hold; {OUT.as_posix()}/claims.json"]


if __name__ == "__main__":
    run_app(app)
