"""Draw the recipes' curves: `python -m embedded.curves` turns `curves/*.jsonl` into `curves/curves.svg`.

One panel a model and figure: the held-out one at every checkpoint where the recipe measures it, else the training one.
"""

import json
from pathlib import Path

from embedded.training import CURVES_DIR, write_atomically
from pipeline.report.charts import PLOT_HEIGHT, WIDTH, draw_curve
from pipeline.report.markup import Markup, element, join

COLUMNS = 3
TITLE_HEIGHT, GAP = 20, 24
SKIPPED = {"step", "step_seconds", "kl"}
STYLE = Markup(
    "text{font:11px sans-serif;fill:#444}.tick{font-size:9.5px;fill:#888}.grid{stroke:#ddd}"
    ".line{fill:none;stroke:#2563eb;stroke-width:1.8}.faint{opacity:.3;stroke-width:1}.dot{fill:#2563eb}"
)


def read_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Read figure -> [(step, value)]."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for key in row.keys() - SKIPPED:
            curves.setdefault(key, []).append((row["step"], row[key]))
    return dict(sorted(curves.items()))


def draw_panels(curves: dict[str, list[tuple[float, float]]]) -> Markup:
    """Lay the charts out in rows."""
    width, height = WIDTH + GAP, PLOT_HEIGHT + 22 + TITLE_HEIGHT + GAP
    panels = []
    for place, (title, points) in enumerate(curves.items()):
        x, y = place % COLUMNS * width, place // COLUMNS * height
        chart = draw_curve(points, label=title, x_name="step")
        inner = element("svg", chart, x=x, y=y + TITLE_HEIGHT, width=WIDTH, height=PLOT_HEIGHT + 22)
        panels.append(join(element("text", title, x=x + 42, y=y + 14), inner))
    rows = -(-len(curves) // COLUMNS)
    return element("svg", element("style", STYLE), *panels, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {COLUMNS * width} {rows * height}")


def main() -> None:
    """Draw every recorded curve."""
    curves = {f"{path.stem}: {key}": points for path in sorted(CURVES_DIR.glob("*.jsonl")) for key, points in read_curves(path).items()}
    text = str(draw_panels(curves)) + "\n"
    write_atomically(CURVES_DIR / "curves.svg", lambda temporary: temporary.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
