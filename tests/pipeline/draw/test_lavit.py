"""LaVIT's pictures by request, of new cases too. Run: python -m pytest tests/pipeline/draw/test_lavit.py"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from pipeline.models.fake import FakeDiffusion
from tests.pipeline.draw.drawing import draw, draw_as_the_run_does
from tests.pipeline.draw.toy_run import ToyRun
from tests.tiny_lavit import SAMPLING, save_tiny_lavit


@pytest.fixture
def toy(tmp_path: Path) -> ToyRun:
    toy = ToyRun(tmp_path)
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    params["models"]["lavit"] = str(save_tiny_lavit(tmp_path / "lavit"))
    params["lavit"] = {"prompt_mode": "history+ref", "history_items": 2, "sampling": asdict(SAMPLING)}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return toy


def test_a_case_of_the_run_has_its_picture_and_a_new_one_a_picture_of_its_own(toy: ToyRun, diffusion: FakeDiffusion) -> None:
    drawn = draw_as_the_run_does(toy, "lavit")
    case = next(row for row in toy.cases if row["case_id"] == min(drawn))
    other = next(f"item-{index:02d}" for index in range(24) if f"item-{index:02d}" not in (*case["history"], case["reference_id"]))
    outcome = draw(toy, f"{case['user_id']},{case['reference_id']},lavit", f"{case['user_id']},{other},lavit")
    assert not outcome.rejected, outcome
    files = {path.read_bytes() for path in (toy.folder / "out").rglob("*.png")}
    assert len(files) == 2
    assert drawn[case["case_id"]] in files
