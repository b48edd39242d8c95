"""The drawing board of the pages: one quiet style, colours that colour-blind readers can tell apart, SVG as a data URI."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, and two greys
BLUE, ORANGE, GREEN, PURPLE, INK, PALE = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#374151", "#9CA3AF"

STYLE = {
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "svg.hashsalt": "perspective",  # the same numbers give the same bytes
    "svg.fonttype": "path",
    "axes.edgecolor": "#9CA3AF",
    "axes.labelcolor": "#374151",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E7EB",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": "#4B5563",
    "ytick.color": "#4B5563",
    "xtick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 2.0,
    "figure.constrained_layout.use": True,
}


@final
@dataclass
class Picture:
    """One drawing: `axes` to draw on; after `drawing` ends, `uri` is a data URI of an SVG. `alt` says what is to be seen."""

    title: str
    caption: str
    alt: str
    axes: Axes
    figure: Figure
    uri: str = field(default="", init=False)


@contextmanager
def drawing(title: str, caption: str, alt: str, width: float = 5.6, height: float = 3.7) -> Iterator[Picture]:
    """Open a picture of width x height inches, close it into `uri`."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        picture = Picture(title, caption, alt, figure.subplots(), figure)
        yield picture
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, facecolor="none")
    picture.uri = "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
