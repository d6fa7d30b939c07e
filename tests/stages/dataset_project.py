"""A folder with params and one raw data set, in which the stage dataset runs as from a shell."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import dataset, entry
from tests import raw_sets
from tests.configs import PARAMS, read_block

MAKERS: dict[str, Callable[[Path], Path]] = {
    "folder": raw_sets.make_folder,
    "ml_latest": raw_sets.make_ml_latest,
    "pog": raw_sets.make_pog,
    "ser30k": raw_sets.make_ser30k,
    "pigeon": raw_sets.make_pigeon,
}
SIZES = {"image_size": 32, "max_rejected_fraction": 0.2}
OWN: dict[str, dict[str, Any]] = {
    "folder": {"history_length": 6},
    "ml_latest": {"history_length": 6},
    "pog": {"history_length": 6, "num_users": 10, "spare_users": 3, "spare_items": 2},
    "ser30k": {"history_length": 7, "stickers_per_theme": 4, "num_users": 12},
    "pigeon": {},
}


class Project:
    """A folder with params and one raw data set, in which the stage is run as from a shell."""

    def __init__(self, root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.raw, self.out, self._monkeypatch = root, MAKERS[name](root / "raw"), root / "out", monkeypatch
        self.params = copy.deepcopy(PARAMS) | {"dataset": read_block(name) | SIZES | OWN[name] | {"raw": str(self.raw)}}
        monkeypatch.setattr(entry, "setup_logging", lambda: None)  # it quietens the whole process

    def run(self, *arguments: str) -> int:
        """Run the stage and return its exit code."""
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params), encoding="utf-8")
        paths = ["--params", str(self.root / "params.yaml"), "--extra", str(self.root / "extra"), "--out", str(self.out)]
        self._monkeypatch.setattr("sys.argv", ["dataset", *paths, *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.run_stage(dataset.app)
        return ended.value.code
