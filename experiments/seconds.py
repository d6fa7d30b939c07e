"""How long the stages of a run took by the clock, those that came from the cache as well: as long as in the run that computed them here.

DVC's outputs hold no times. They stand in the runs' logs, and are kept in `.work/experiments/` by the hash of what the stage made.
"""

from __future__ import annotations

import re

from experiments.series import get_log
from experiments.store import Fetch
from pipeline.fingerprint import compute_fingerprint
from pipeline.json_files import read_json, write_json
from pipeline.work import work_dir
from pipeline.yaml_files import read_yaml_mapping

CLOSING = re.compile(r"^(?P<stage>[a-z_]+): \d+ rows in, (?P<computed>\d+) computed, (?P<reused>\d+) reused, .*, (?P<time>[0-9.]+) s$", re.MULTILINE)


def read_stage_seconds(experiment: str, fetch: Fetch) -> dict[str, float]:
    """Return the seconds of a run's stages by name, those of which they are known on this machine; a stage of several items has none."""
    log, place = get_log(experiment), work_dir() / "experiments" / "stage_seconds.json"
    own = find_seconds(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else {}
    known = read_json(place) if place.is_file() else {}
    keys = {stage: compute_fingerprint(entry.get("outs")) for stage, entry in read_yaml_mapping(fetch("dvc.lock"))["stages"].items()}
    if new := {keys[stage]: seconds for stage, seconds in own.items() if stage in keys}:
        known |= new
        write_json(place, known)
    return {stage: known[key] for stage, key in keys.items() if key in known}


def find_seconds(log: str) -> dict[str, float]:
    """Return the seconds in every stage's last closing line, e.g. `ranker: 9500 rows in, ..., 41.2 s`; not where most rows were there before."""
    closed = [line for line in CLOSING.finditer(log) if int(line["computed"]) > int(line["reused"])]
    return {line["stage"]: float(line["time"]) for line in closed}
