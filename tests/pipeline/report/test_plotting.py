"""SVG that looks and is the same everywhere. Run: python -m pytest tests/pipeline/report/test_plotting.py -q"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from pipeline.report.plotting import DARK, MAIN, STYLE, render_svg, use_style

REPO = Path(__file__).resolve().parents[3]
DRAW = "from tests.pipeline.report.test_plotting import draw; print(draw(), end='')"


def draw(title: str = "A <b> & $x$ title") -> str:
    with use_style():
        figure = Figure((4, 2), dpi=72, layout="constrained")
        axes = figure.add_subplot()
        axes.plot([1, 3, 2], "o-", color=MAIN, alpha=0.5)
        axes.set_title(title)
        axes.set_yticks([1, 2], ["<script>", "50%"])
        return render_svg(figure, title=title)


def test_another_process_gives_the_same_bytes_whatever_the_users_own_settings(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: path\naxes.facecolor: red\nfont.family: serif\n")
    changed = {"MATPLOTLIBRC": str(tmp_path), "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    other = subprocess.run([sys.executable, "-c", DRAW], cwd=REPO, env=os.environ | changed, capture_output=True, text=True, check=True)
    assert other.stdout == draw()


def test_drawing_leaves_the_settings_of_others_alone() -> None:
    before = {name: matplotlib.rcParams[name] for name in STYLE}
    draw()
    assert {name: matplotlib.rcParams[name] for name in STYLE} == before


def test_names_are_shown_as_they_are_and_can_be_searched() -> None:
    texts = {node.text for node in ElementTree.fromstring(draw()).iter() if node.tag.endswith(("}text", "}title"))}
    assert {"A <b> & $x$ title", "<script>", "50%"} <= texts


def test_every_colour_has_a_rule_for_dark_readers_and_no_two_the_same_name() -> None:
    head = draw().partition("</style>")[0]
    light, dark = head.split("@media (prefers-color-scheme: dark)")
    assert "#" not in light[light.index("<style") :]
    for colour, other in DARK.items():
        for name in ("fill", "stroke"):
            assert f'[style*="{name}: {colour}"] {{ {name}: {other} !important }}' in dark
    assert not set(DARK) & set(DARK.values())
