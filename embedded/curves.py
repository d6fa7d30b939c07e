"""Draw the recipes' curves: `python -m embedded.curves` turns `curves/*.jsonl` into `curves/curves.svg`.

One panel per model and figure: the held-out one at every checkpoint where the recipe measures it, else the training one.
"""

import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from embedded.training import CURVES_DIR, write_atomically
from pipeline.report.charts import MAX_POINTS, SMOOTHED_POINTS, average_blocks, smooth
from pipeline.report.plotting import DRAWN, ROUND, WIDTH, render_svg, use_style

COLUMNS = 3
HEIGHT = 120  # points of a panel
SKIPPED = {"step", "step_seconds", "kl"}
Points = list[tuple[float, float]]


def read_curves(path: Path) -> dict[str, Points]:
    """Read figure -> [(step, value)]."""
    curves: dict[str, Points] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for key in row.keys() - SKIPPED:
            curves.setdefault(key, []).append((row["step"], row[key]))
    return dict(sorted(curves.items()))


def draw_panels(curves: dict[str, Points]) -> str:
    """Return the SVG text of all curves, in rows."""
    rows = -(-len(curves) // COLUMNS)
    with use_style():
        figure = Figure((WIDTH / 72, rows * HEIGHT / 72), dpi=72, layout="constrained")
        figure.get_layout_engine().set(w_pad=8 / 72, h_pad=8 / 72)
        grid = figure.add_gridspec(rows, COLUMNS)
        for place, (title, points) in enumerate(curves.items()):
            axes = figure.add_subplot(grid[divmod(place, COLUMNS)])
            axes.set_title(title)
            draw_curve(axes, sorted(points))
        return render_svg(figure, title="Curves of the recipes")


def draw_curve(axes: Axes, points: Points) -> None:
    """Draw a value over the step: long curves as a faint line with a smooth one on top."""
    shown = average_blocks(points, limit=MAX_POINTS)
    if len(shown) >= SMOOTHED_POINTS:
        axes.plot(*zip(*shown, strict=True), color=DRAWN, alpha=0.3, linewidth=0.8)
        shown = smooth(shown)
    axes.plot(*zip(*shown, strict=True), color=DRAWN, linewidth=1.4)
    axes.plot(*shown[-1], "o", color=DRAWN, markersize=4.5)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
    axes.set_xlabel("step", labelpad=1)
    axes.grid(axis="y")


def main() -> None:
    """Draw every recorded curve."""
    curves = {f"{path.stem}: {key}": points for path in sorted(CURVES_DIR.glob("*.jsonl")) for key, points in read_curves(path).items()}
    text = draw_panels(curves)
    write_atomically(CURVES_DIR / "curves.svg", lambda temporary: temporary.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
