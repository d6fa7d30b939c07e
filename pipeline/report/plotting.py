"""Matplotlib figures as SVG text: one look, light and dark, and the same bytes from the same values on every machine."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager

import matplotlib.style
from matplotlib.figure import Figure

WIDTH = 756  # points, 1008 pixels: as wide as a README shows it
ROUND = (1, 2, 5, 10)  # steps between the numbers of an axis
PAPER, INK, SOFT, FAINT, EDGE = "#ffffff", "#1d1c22", "#6b6874", "#9d99a6", "#e7e3da"
MAIN, DRAWN, BOUND = "#d9480f", "#5c6f9c", "#b3afba"
COLOURS = {"main": MAIN, "drawn": DRAWN, "bound": BOUND}  # by role
DARK = {
    PAPER: "#16151a",
    INK: "#eceaf1",
    SOFT: "#a6a2b2",
    FAINT: "#777283",
    EDGE: "#33313c",
    MAIN: "#ff8a4c",
    DRAWN: "#93a7d8",
    BOUND: "#63606d",
}  # by light colour
STYLE = {
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.edgecolor": EDGE,
    "axes.labelcolor": FAINT,
    "axes.labelsize": 7.5,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.bottom": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that the layout depends on no font of the machine
    "font.size": 8.25,
    "grid.color": EDGE,
    "grid.linewidth": 0.75,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text: small files that can be searched
    "svg.hashsalt": "ragar",
    "text.color": SOFT,
    "text.parse_math": False,  # a `$` in a name is a dollar
    "xtick.color": FAINT,
    "xtick.labelsize": 7.5,
    "xtick.major.size": 0,
    "ytick.color": FAINT,
    "ytick.labelsize": 7.5,
    "ytick.major.size": 0,
}
FONTS = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", "DejaVu Sans", sans-serif'


def use_style() -> AbstractContextManager[None]:
    """Set our look over matplotlib's defaults, not over the user's own; figures are made and rendered inside of it."""
    return matplotlib.style.context(["default", STYLE])


def render_svg(figure: Figure, *, title: str) -> str:
    """Return the figure as SVG whose colours follow the reader's light or dark setting."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Title": title, "Date": None, "Creator": None})
    # matplotlib writes colours into each element, and only an !important rule is stronger
    rules = [f'[style*="{name}: {light}"] {{ {name}: {dark} !important }}' for light, dark in DARK.items() for name in ("fill", "stroke")]
    sheet = "\n".join((f"text {{ font-family: {FONTS} !important }}", "@media (prefers-color-scheme: dark) {", *rules, "}", "</style>"))
    return buffer.getvalue().replace("</style>", sheet, 1)
