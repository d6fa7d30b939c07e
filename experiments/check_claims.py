"""Check what the project claims against the results of its experiments: `python -m experiments.check_claims`.

Writes docs/results/claims.json and prints a table. Claims that do not hold are written as they came out; only a missing
experiment is an error. Nothing is read from docs/: every figure comes from the scores of the finished runs.

Readings: "within 0.05 of" is "not worse by more than 0.05". The seconds of a stage are its `seconds` in data/<stage>/metrics.json or, as
DVC's outputs hold no times, the stage's last closing line in the run's log. A stage that came from the cache has none, so the time
claims look at the default sizes under every seed and take the slowest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from experiments.catalogue import Experiment, get_experiment, list_runs
from experiments.claim_list import CLAIMS, MAX_SECONDS
from experiments.claim_rules import Claim, Evidence, Verdict
from experiments.collect import read_results
from experiments.entry import OUT, find_root, run_app
from experiments.plan import Plan, plan_runs, read_inputs
from experiments.runs import DEFAULT, SEED_POINTS
from experiments.series import get_log
from experiments.store import Fetch, Stored, list_stored, open_experiment
from pipeline.artifacts import read_table
from pipeline.choice import RESET, list_chosen, read_choice
from pipeline.data.openmoji import is_held_out
from pipeline.json_files import read_json, write_json
from pipeline.schemas import CASES, LABELS
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
    stored = list_stored(root)
    check_complete(needed, plans, stored)
    evidence = read_evidence(plans, stored, root=root)
    checked = [Checked(claim, claim.check(evidence)) for claim in CLAIMS]
    write_json(root / OUT / "claims.json", [build_entry(entry) for entry in checked])
    say(*format_claims(checked))


def check_complete(needed: Sequence[Experiment], plans: Sequence[Plan], stored: Mapping[str, Stored]) -> None:
    """Raise ValueError with the make targets whose runs nobody has finished."""
    missing = {plan.run.name for plan in plans if plan.fingerprint not in stored}
    lacking = {experiment.name: [run.name for run in experiment.list_runs() if run.name in missing] for experiment in needed}
    gaps = [f"`make {name}` (not finished: {', '.join(runs)})" for name, runs in lacking.items() if runs]
    if gaps:
        raise ValueError(f"the claims need results that are missing; run {'; '.join(gaps)}.")


def read_evidence(plans: Sequence[Plan], stored: Mapping[str, Stored], *, root: Path) -> Evidence:
    """Read the results of all runs, the share of held-out truths of the default run, and the seconds of the claimed stages by seed."""
    results = read_results(plans, stored, root=root)
    stored_of = {plan.run.name: stored[plan.fingerprint] for plan in plans}
    with open_experiment(stored_of[DEFAULT.name], root=root) as fetch:
        cases, labels = read_table(fetch("data/dataset/cases.parquet"), CASES), read_table(fetch("data/dataset/labels.parquet"), LABELS)
    seconds: dict[str, dict[int, float]] = {stage: {} for stage in MAX_SECONDS}
    for run in (point.run for point in SEED_POINTS):
        with open_experiment(stored_of[run.name], root=root) as fetch:
            for stage, known in read_seconds(stored_of[run.name].name, fetch).items():
                seconds[stage][results[run.name].seed] = known
    return Evidence(results, compute_held_out_share(cases.to_pylist(), labels.to_pylist()), seconds)


def read_seconds(experiment: str, fetch: Fetch) -> dict[str, float]:
    """Return how long the claimed stages took in a run, those of which it is known."""
    log = get_log(experiment)
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    found = {stage: read_json(fetch(f"data/{stage}/metrics.json")).get("seconds", find_seconds(text, stage)) for stage in MAX_SECONDS}
    return {stage: seconds for stage, seconds in found.items() if seconds is not None}


def compute_held_out_share(cases: Sequence[dict[str, Any]], labels: Sequence[dict[str, Any]]) -> float | None:
    """Return the share of test cases with a truth that no model was trained on; None without any truth."""
    style_of = {row["item_id"]: row["style"] for row in labels}
    truths = [case["truth_id"] for case in cases if case["split"] == "test" and case["truth_id"] in style_of]
    if not truths:
        return None
    return sum(is_held_out(truth.rsplit("-", 1)[0], style_of[truth]) for truth in truths) / len(truths)


def find_seconds(log: str, stage: str) -> float | None:
    """Return the seconds in the last closing line of a stage, e.g. `ranker: 9500 rows in, ..., 41.2 s`; None if it never ran."""
    found = re.findall(rf"^{re.escape(stage)}: \d+ rows in, .*, ([0-9.]+) s$", log, flags=re.MULTILINE)
    return float(found[-1]) if found else None


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
