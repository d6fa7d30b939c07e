"""The picture of the recipes' curves. Run: python -m pytest tests/embedded/test_curves.py -q"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from embedded import curves


def test_every_recorded_figure_but_the_skipped_ones_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "CURVES_DIR", tmp_path)
    rows = [{"step": step, "loss": 1 / (step + 1), "kl": 1.0, "step_seconds": 0.1} for step in range(500)]
    (tmp_path / "vae.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, {"step": 500, "held_out_psnr": 20.5}]))
    (tmp_path / "judge.jsonl").write_text(json.dumps({"step": 0, "loss": 2.0}))
    curves.main()
    first = (tmp_path / "curves.svg").read_bytes()
    texts = [node.text for node in ElementTree.fromstring(first).iter() if node.tag.endswith("}text")]
    assert [text for text in texts if text and ": " in text] == ["judge: loss", "vae: held_out_psnr", "vae: loss"]
    curves.main()
    assert (tmp_path / "curves.svg").read_bytes() == first
