"""The drawing board of the page: one quiet style, colours that colour-blind readers can tell apart, SVG as a data URI."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, INK, PALE = "#0072B2", "#D55E00", "#009E73", "#374151", "#9CA3AF"  # Okabe and Ito's, and two greys
STYLE = {
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "svg.hashsalt": "derivation",  # the same declaration gives the same bytes
    "svg.fonttype": "path",
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E7EB",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 2.0,
    "figure.constrained_layout.use": True,
}


@final
@dataclass
class Picture:
    """One drawing: `axes` to draw on; once closed, `uri` is a data URI of an SVG. `alt` says what is to be seen."""

    title: str
    caption: str
    alt: str
    axes: Axes
    figure: Figure
    uri: str = field(default="", init=False)


@contextmanager
def drawing(title: str, caption: str, alt: str) -> Iterator[Picture]:
    """Open a picture, close it into its `uri`."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.9))
        picture = Picture(title, caption, alt, figure.subplots(), figure)
        yield picture
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, facecolor="none")
    picture.uri = "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
