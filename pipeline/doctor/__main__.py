"""`python -m pipeline.doctor`: every check in a line each; `--before repro` or `--before experiment`: silent, unless something is in the way.

`--after`, when DVC has failed: which stage the system has killed, and what may be the reason of an error that DVC does not explain.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipeline.doctor import disk, installed, machine, repository, settings
from pipeline.doctor.findings import Check, Finding
from pipeline.endings import FAILED, explain, fail, run_command
from pipeline.memory import explain_killed, take_killed
from pipeline.terminal import say

CHECKS: tuple[Check, ...] = (*machine.CHECKS, *disk.CHECKS, *repository.CHECKS, *settings.CHECKS, *installed.CHECKS)
COMMON: tuple[Check, ...] = (machine.check_home, installed.check_packages, disk.check_writable, settings.check_settings, settings.check_yaml)
BEFORE: dict[str, tuple[Check, ...]] = {
    "repro": (*repository.BEFORE_REPRO, *COMMON),
    "experiment": (*repository.BEFORE_EXPERIMENT, *COMMON),
}
AFTER: tuple[Check, ...] = (machine.check_limits, machine.check_temporary_files, *COMMON, disk.check_room, disk.check_locks)
SHOWN = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def run_check(check: Check) -> Finding:
    """Return what a check finds; one that fails itself has found something too."""
    try:
        return check()
    except Exception as error:
        text = explain(error) or f"{type(error).__name__}: {error}"
        return Finding("wrong", f"{check.__name__.removeprefix('check_')}: {text.rstrip('.')}")


def examine() -> int:
    """Print one line per check; return 2 if something would stop a run."""
    findings = []
    for check in CHECKS:
        findings.append(run_check(check))
        say(f"{SHOWN[findings[-1].level]} {findings[-1].text}")
    for stage in take_killed():
        say(f"{SHOWN['note']} {explain_killed(stage)}")
    return FAILED if any(finding.level == "wrong" for finding in findings) else 0


def refuse(checks: Sequence[Check]) -> None:
    """End with the first thing that is in the way, as one sentence."""
    for check in checks:
        finding = run_check(check)
        if finding.level == "wrong":
            fail(f"{finding.text}. `make doctor` looks at everything.")


def main(arguments: Sequence[str]) -> None:
    """Run the checks that the command line asks for."""
    if arguments and arguments[0] == "--before":
        refuse(BEFORE[arguments[1]])
    elif arguments and arguments[0] == "--after":
        for stage in take_killed():
            say(f"error: {explain_killed(stage)}", file=sys.stderr)
        for finding in filter(lambda found: found.level == "wrong", map(run_check, AFTER)):
            say(f"perhaps because of this: {finding.text}", file=sys.stderr)
    elif code := examine():
        sys.exit(code)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
