"""How long stages took, by the run that computed what they made. Run: python -m pytest tests/experiments/test_seconds.py -q"""

from __future__ import annotations

from pathlib import Path

import yaml

from experiments.seconds import find_seconds, read_stage_seconds
from experiments.series import get_log

DONE = "ranker: 9500 rows in, 9500 computed, 0 reused, 0 rejected, 41.2 s\n"


def write_run(root: Path, name: str, log: str, **made: str) -> None:
    (root / name).mkdir()
    stages = {stage: {"cmd": "x", "outs": [{"path": f"data/{stage}", "md5": md5}]} for stage, md5 in made.items()}
    (root / name / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    get_log(name).parent.mkdir(parents=True, exist_ok=True)
    get_log(name).write_text(log)


def test_the_last_closing_line_of_a_stage_tells_its_seconds() -> None:
    log = DONE + "ranker_check: 10 rows in, 10 computed, 0 reused, 0 rejected, 7.0 s\n"
    assert find_seconds(log) == {"ranker": 41.2, "ranker_check": 7.0}
    assert find_seconds(log + DONE.replace("41.2", "38.0"))["ranker"] == 38.0


def test_a_stage_that_went_on_with_finished_rows_has_no_seconds_of_its_own() -> None:
    assert find_seconds("keywords: 1800 rows in, 40 computed, 1760 reused, 0 rejected, 2.1 s\n") == {}


def test_what_came_from_the_cache_took_as_long_as_in_the_run_that_made_it(tmp_path: Path) -> None:
    write_run(tmp_path, "first", DONE, ranker="aa", keywords="cc")
    write_run(tmp_path, "same", "", ranker="aa", keywords="cc")
    write_run(tmp_path, "other", "", ranker="bb", keywords="cc")

    def read(name: str) -> dict[str, float]:
        return read_stage_seconds(name, lambda path: tmp_path / name / path)

    assert read("same") == {}  # nobody has read the first yet
    assert [read(name) for name in ("first", "same", "other")] == [{"ranker": 41.2}, {"ranker": 41.2}, {}]
    get_log("first").unlink()
    assert read("first") == {"ranker": 41.2}
