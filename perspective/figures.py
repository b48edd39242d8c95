"""Pictures of one regulariser with numbers: its cost, the hull of one group, its value, its indicator and its prox.

A group of SIZE weights is drawn along lines through zero: all weights equal, or one weight alone. Along any line r is exactly
straight until y* = 1, because the perspective is homogeneous in (w, y); so y* = 1 is reached at w / y*(w) for a small w.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import sympy
from numpy.typing import NDArray

from perspective.drawing import BLUE, GREEN, INK, ORANGE, PALE, Picture, drawing
from perspective.numeric import NumericRegularizer

Array = NDArray[np.float64]
SIZE = 4
FILLS = {"kept whole": "#DCEBF5", "shared": "#FBE3D2", "held by the box": "#D5EFE6", "price unpaid": "#ECECF0"}


@final
@dataclass(frozen=True)
class Scene:
    """What all pictures share. low, high: the drawn range of one weight; whole: where y* = 1 with all weights equal (or inf)."""

    num: NumericRegularizer
    lower: float
    upper: float
    low: float
    high: float
    whole: float

    @property
    def weights(self) -> Array:
        """The drawn sizes of one weight; never the far side of a one-sided box."""
        return np.linspace(self.low, self.high, 701)

    def equal(self, t: Array) -> Array:
        """Groups of SIZE equal weights, (len(t), SIZE)."""
        return np.repeat(np.asarray(t, dtype=float)[:, None], SIZE, axis=1)

    def alone(self, t: Array) -> Array:
        """Groups in which one weight is t and the others are zero, (len(t), SIZE)."""
        rows = np.zeros((len(t), SIZE))
        rows[:, 0] = t
        return rows

    def edge(self, rows: Callable[[Array], Array]) -> float:
        """The largest t >= 0 for which rows(t) lies in the box (inf without a box)."""
        ball = self.num.regularizer.block.domain == "ball"
        return self.upper / float(np.linalg.norm(rows(np.ones(1))[0])) if ball else self.upper

    def exact(self, rows: Array) -> Array:
        """Cost of the group if it is kept: cost + price."""
        size = np.linalg.norm(rows, axis=1, keepdims=True) if self.num.regularizer.block.radial else np.abs(rows)
        return self.num.cost(size).sum(axis=1) + self.num.price


def set_scene(num: NumericRegularizer) -> Scene:
    """Choose the range to draw: a little more than the point where y* = 1, or the box, whichever comes first."""
    block = num.regularizer.block
    numbers = {sympy.Symbol(name, positive=True): number for name, number in num.parameters.items()}
    upper = np.inf if num.bound is None else num.bound
    lower = upper if block.lower is None else float(block.lower.subs(numbers))
    scale = min(upper, 1.0)
    small = np.full((1, SIZE), 1e-4 * scale)
    share = float(num.indicator(small)[0])
    whole = 1e-4 * scale / share if share > 0 else np.inf
    edge = upper / SIZE**0.5 if block.domain == "ball" else upper
    reach = min(2.2 * whole, 1.0 * edge) if np.isfinite(min(whole, edge)) else 3.0
    reach = edge if np.isfinite(edge) and edge < 4 * whole else reach
    return Scene(num, lower, upper, 0.0 if block.lower is None else -min(lower, reach), reach, whole)


def draw_all(num: NumericRegularizer) -> tuple[Picture, ...]:
    """The six pictures of the page, in reading order."""
    scene = set_scene(num)
    return (cost(scene), hull(scene), value(scene), indicator(scene), cases(scene), prox(scene))


def cost(scene: Scene) -> Picture:
    """phi, with the box's ends."""
    boxed = np.isfinite(scene.upper)
    top = scene.upper if boxed else 2.0 * scene.high
    s = np.linspace(0, 1.15 * top if boxed else top, 400)
    values = scene.num.cost(s)
    with drawing(
        "The cost of one weight",
        "φ(s), what a weight of size s costs in a group that is kept."
        + (" Beyond the box (dotted) no weight may be." if boxed else ""),
        "The cost phi against the size of the weight",
    ) as picture:
        ax = picture.axes
        ax.plot(s[s <= top], values[s <= top], color=BLUE)
        if boxed:
            ax.plot(s[s > top], values[s > top], color=BLUE, lw=1, ls=":")
            ax.axvline(top, color=INK, lw=1, ls=":")
            ax.text(top, 0.02, " box", transform=ax.get_xaxis_transform(), color=INK, fontsize=9)
        ax.set(xlabel="s = ‖w‖₂" if scene.num.regularizer.block.radial else "s = |w|", ylabel="φ(s)", xlim=(0, s[-1]))
        ax.set_ylim(0, 1.05 * max(float(values.max()), 1e-3))
    return picture


def hull(scene: Scene) -> Picture:
    """Contours of the smallest cost over (w, y) in the convex hull, against the two pieces of the nonconvex set."""
    num = scene.num
    low, high = (-scene.high if scene.lower == scene.upper else scene.low), scene.high
    t = np.linspace(low, high, 241)
    y = np.linspace(1 / 200, 1, 200)
    w, share = np.meshgrid(t, y)
    rows = scene.equal((w / share).ravel())
    with np.errstate(all="ignore"):
        lowest = (share.ravel() * scene.exact(rows)).reshape(w.shape)
    side = np.where(w < 0, scene.lower, scene.upper) / (SIZE**0.5 if num.regularizer.block.domain == "ball" else 1.0)
    lowest[(np.abs(w) > side * share * (1 + 1e-12)) | ~np.isfinite(lowest)] = np.nan
    top = float(np.nanmax(lowest[-1]))
    with drawing(
        "The convex hull of one group",
        "The exact program knows two things: removed (the dot, w = 0 at cost 0) and kept (the line y = 1). The colours and "
        f"lines show the lowest cost of their convex hull in between, P(w, y), for {SIZE} equal weights: no formulation of one "
        "group is tighter. White: outside the box, or dearer than every kept point shown. The dashed curve is the cheapest y for "
        "each w: walking along it gives r(w).",
        "Contours of the perspective over w and y, with the nonconvex set and the minimising y",
    ) as picture:
        ax = picture.axes
        levels = np.linspace(0, top, 15)
        shown = ax.contourf(t, y, lowest, levels=levels, cmap="Blues", alpha=0.75)
        ax.contour(t, y, lowest, levels=levels, colors=BLUE, linewidths=0.6)
        picture.figure.colorbar(shown, ax=ax, label="lowest cost", format="%.2g")
        ax.plot(t, num.indicator(scene.equal(t)), color=INK, lw=1.5, ls="--", label="cheapest y: y*(w)")
        ax.plot([low, high], [1, 1], color=ORANGE, lw=4, solid_capstyle="butt", clip_on=False, label="kept: y = 1")
        ax.plot([0], [0], "o", color=ORANGE, ms=9, clip_on=False, zorder=5, label="removed: w = 0, y = 0")
        ax.set(xlabel="w (each weight)", ylabel="y", xlim=(low, high), ylim=(0, 1.02))
        ax.grid(False)
        picture.figure.legend(loc="outside lower center", ncols=3)
    return picture


def value(scene: Scene) -> Picture:
    """r against the price it stands for, and against the group lasso with its slope at zero."""
    num, t = scene.num, scene.weights
    mine, exact = num.value(scene.equal(t)), scene.exact(scene.equal(t))
    slopes = [
        float(num.value(scene.equal(np.array([e])))[0]) / abs(e) for e in (1e-6 * scene.low, 1e-6 * scene.high) if e
    ]
    lasso = np.where(t < 0, slopes[0], slopes[-1]) * np.abs(t)
    with drawing(
        "The regulariser against the price it stands for",
        "Orange: the exact cost, which jumps by the price as soon as the group is not zero. Blue: r, the best convex stand-in: "
        "straight from zero, and equal to the exact cost from y* = 1 on. Grey: the group lasso with the same slope at zero, "
        f"which never stops at the price. {SIZE} equal weights.",
        "r, the exact cost with its jump at zero, and the group lasso of the same slope",
    ) as picture:
        ax = picture.axes
        ax.plot(t, lasso, color=PALE, ls=(0, (4, 2)), label="group lasso of the same slope")
        ax.plot(t[t < 0], exact[t < 0], color=ORANGE, lw=1.6)
        ax.plot(t[t > 0], exact[t > 0], color=ORANGE, lw=1.6, label="exact: cost + price, 0 if removed")
        ax.plot([0], [num.price], "o", mfc="white", mec=ORANGE, ms=6, zorder=3)
        ax.plot([0], [0], "o", color=ORANGE, ms=6, clip_on=False, zorder=4)
        ax.plot(t, mine, color=BLUE, label="r(w)")
        if scene.whole < scene.high:
            at = float(num.value(scene.equal(np.array([scene.whole])))[0])
            ax.plot([scene.whole], [at], "s", color=BLUE, ms=7, label=f"y* = 1 from w = {scene.whole:.3g}")
        ax.set(xlabel="w (each weight)", ylabel="cost", xlim=(scene.low, scene.high))
        ax.set_ylim(0, 1.3 * max(float(mine.max()), float(exact.max())))
        ax.legend(loc="upper left" if scene.low == 0 else "upper center")
    return picture


def indicator(scene: Scene) -> Picture:
    """y*(w) along two lines through zero."""
    num, t = scene.num, scene.weights
    with drawing(
        "The minimising indicator",
        "y*(w), the fraction of the price that is paid: it rises in a straight line to 1 (squares), and stays there. "
        f"Spread over {SIZE} weights it rises at least as fast as with one weight alone."
        + (" The box holds y* at or above the share of it that the largest weight fills." if scene.num.bound else ""),
        "The minimising indicator against the size of the weights, for equal weights and for one weight alone",
    ) as picture:
        ax = picture.axes
        for rows, colour, name in (
            (scene.equal, BLUE, f"{SIZE} equal weights"),
            (scene.alone, GREEN, "one weight alone"),
        ):
            inside = t[t <= scene.edge(rows)]
            y = num.indicator(rows(inside))
            ax.plot(inside, y, color=colour, label=name)
            for side in (inside < 0, inside > 0):
                full = np.abs(inside[side & (y >= 1)])
                if full.size:
                    ax.plot(
                        [full.min() * (1 if side[-1] else -1)], [1], "s", color=colour, ms=7, clip_on=False, zorder=4
                    )
        ax.set(xlabel="w", ylabel="y*(w)", xlim=(scene.low, scene.high), ylim=(0, 1.05))
        ax.legend(loc="lower right")
    return picture


def cases(scene: Scene) -> Picture:
    """Level lines of r for a group of two weights, and which case holds where."""
    low, high = (-scene.high if scene.lower == scene.upper else scene.low), scene.high
    side = np.linspace(1.25 * low, 1.25 * high, 281)
    first, second = np.meshgrid(side, side)
    rows = np.stack([first.ravel(), second.ravel()], axis=1)
    r, y = scene.num.value(rows), scene.num.indicator(rows)
    share = _share_of_box(scene, rows)
    names = [piece.name for piece in scene.num.regularizer.pieces]
    kind = np.select(
        [~np.isfinite(r), y >= 1, y <= 0, np.abs(y - share) <= 1e-9 * y],
        [-1, *(names.index(n) if n in names else -1 for n in ("kept whole", "price unpaid", "held by the box"))],
        names.index("shared") if "shared" in names else -1,
    ).reshape(first.shape)
    with drawing(
        "The cases of a group of two weights",
        "Lines of equal r(w), and in colour the case of the table that holds."
        + (" White: outside the box." if (kind < 0).any() else ""),
        "Level lines of r over two weights, coloured by case",
    ) as picture:
        ax = picture.axes
        for k, name in enumerate(names):
            if (kind == k).any():
                ax.contourf(side, side, kind == k, levels=[0.5, 1.5], colors=[FILLS[name]])
                ax.plot([], [], "s", color=FILLS[name], ms=10, mec=PALE, mew=0.5, label=name)
        inside = np.where(np.isfinite(r), r, np.nan).reshape(first.shape)
        ax.contour(
            side, side, inside, levels=np.linspace(0, float(np.nanmax(inside)), 12)[1:], colors=INK, linewidths=0.9
        )
        ax.set(xlabel="first weight", ylabel="second weight", aspect="equal")
        ax.grid(False)
        picture.figure.set_layout_engine("compressed")
        picture.figure.legend(loc="outside lower center", ncols=4)
    return picture


def _share_of_box(scene: Scene, rows: Array) -> Array:
    if scene.num.regularizer.block.domain == "ball":
        return np.linalg.norm(rows, axis=1) / scene.upper
    bound = np.where(rows < 0, scene.lower, scene.upper)
    return np.max(np.where(rows == 0, 0.0, np.abs(rows) / np.where(bound == 0, np.nan, bound)), axis=1)


def prox(scene: Scene) -> Picture:
    """The prox for three steps, with the points where it leaves zero, where y* = 1, and where it meets the box."""
    num = scene.num
    unit = min(scene.whole, scene.high)
    reach = 2.0 * scene.high
    t = np.linspace(2.0 * scene.low, reach, 1601)
    with drawing(
        "The proximal step",
        f"What remains of each of {SIZE} equal weights v after one step, for three step sizes: exactly zero up to the circle, "
        "the whole price is paid from the square on, and the triangle is the box.",
        "The prox against v for three steps with its breakpoints",
    ) as picture:
        ax = picture.axes
        ax.plot(t, t, color=PALE, lw=1, ls=":", label="no change")
        for fraction, colour in ((0.25, GREEN), (0.6, BLUE), (1.1, ORANGE)):
            step = float(num.zero_threshold(scene.equal(np.array([fraction * unit])))[0])
            after = num.prox(scene.equal(t), step)
            w = after[:, 0]
            ax.plot(t, w, color=colour, label=f"step {step:.3g}")
            marks = (("o", w == 0, -1), ("s", num.indicator(np.minimum(after, scene.edge(scene.equal))) >= 1, 0))
            for marker, holds, last in marks:
                at = np.flatnonzero(holds & (t > 0))
                if at.size:
                    ax.plot([t[at[last]]], [w[at[last]]], marker, color=colour, mfc="white", ms=6.5, zorder=4)
            box = np.flatnonzero(w >= scene.edge(scene.equal) * (1 - 1e-9))
            if box.size:
                ax.plot([t[box[0]]], [w[box[0]]], "^", color=colour, ms=7, zorder=4)
        ax.set(xlabel="v (each weight)", ylabel="prox(v)", xlim=(2.0 * scene.low, reach))
        ax.set_ylim(1.1 * scene.low if scene.low else -0.02 * scene.high, min(reach, 1.3 * scene.high))
        ax.legend(loc="upper left")
    return picture
