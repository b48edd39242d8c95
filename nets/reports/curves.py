"""Pictures of the mathematics: the penalty of one channel, what one prox step does to it, and the chain of bounds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from perspective import NumericRegularizer, declare, derive
from perspective.drawing import BLUE, GREEN, INK, ORANGE, PALE, Picture, drawing

NUMBERS = 144  # a 3 x 3 filter over 16 channels


def bind_spr(alpha: float, bound: float) -> NumericRegularizer:
    """Structured Perspective Regularization with the run's numbers, derived from its declaration."""
    return derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=alpha, M=bound)


def penalty_picture(num: NumericRegularizer, bound: float) -> Picture:
    """Penalty of a channel of NUMBERS equal weights against the size of each, with the true price and a group lasso."""
    full = _full_indicator(num, bound)
    reach = min(bound, 2.2 * full)
    size = np.linspace(0, reach, 400)
    value = num.value(_rows(size))
    price = num.price + NUMBERS * num.cost(size)
    slope = float(num.value(_rows(np.array([1e-3 * reach])))[0]) / (1e-3 * reach)
    with drawing(
        "What a channel costs",
        "Keeping any channel at all has a price: the true cost (orange) jumps at zero and no gradient can work with a jump. "
        "The projected penalty (blue) is the best convex stand-in: it starts at zero, rises in a straight line until "
        f"{full:.3g}, and from there on it is the true cost. A group lasso (grey) never stops rising at its first rate.",
        "Penalty of one channel against the size of its weights: projected, true price, group lasso",
    ) as picture:
        ax = picture.axes
        ax.plot(size, slope * size, color=PALE, ls=(0, (4, 2)), label="group lasso of the same first slope")
        ax.plot(size[1:], price[1:], color=ORANGE, lw=1.6, label="true cost: price + ridge if kept, 0 if not")
        ax.plot([0], [num.price], "o", mfc="white", mec=ORANGE, ms=6)
        ax.plot([0], [0], "o", color=ORANGE, ms=6, clip_on=False, zorder=3)
        ax.plot(size, value, color=BLUE, label="projected penalty r")
        if full < reach:
            top = float(num.value(_rows(np.array([full])))[0])
            _mark(ax, full, top, f"y* = 1 at {full:.3g}", (full + 0.12 * reach, 0.5 * top))
        ax.set_xlabel(f"size of each of the channel's {NUMBERS} weights")
        ax.set_ylabel("penalty")
        ax.set_xlim(0, reach)
        ax.set_ylim(0, 1.15 * max(float(value[-1]), float(price[-1])))
        ax.legend(loc="upper left")
    return picture


def prox_picture(num: NumericRegularizer, bound: float) -> Picture:
    """Size of the weights after one prox step against the size before it, for a step that zeroes a third of the range."""
    full = _full_indicator(num, bound)
    reach = min(1.15 * bound, 2.2 * full)
    threshold = 0.35 * min(reach, full)
    step = float(num.zero_threshold(_rows(np.array([threshold])))[0])
    size = np.linspace(0, reach, 500)
    after = num.prox(_rows(size), step)[:, 0]
    slope = float(num.value(_rows(np.array([1e-3 * reach])))[0]) / (1e-3 * reach)
    lasso = np.maximum(0, size - step * slope / NUMBERS)
    kept = _kept(num, size, step)
    gain = NUMBERS * (0.5 * size**2 - 0.5 * (size - kept) ** 2 - step * num.cost(kept)) - step * num.price
    hard = np.where(gain > 0, kept, np.nan)
    cut = size[np.isfinite(hard)][0] if np.isfinite(hard).any() else reach
    with drawing(
        "What one step does",
        f"The proximal step (blue) sets a channel to exactly zero when its weights are below {threshold:.3g}; once the "
        "full price is paid it does what the true cost (orange) would do: the price no longer pulls, only the ridge "
        "shrinks the weights. The true cost itself would cut at a cliff; a group lasso (grey) takes the same amount off "
        "however large the weights are. The thin line is no change; the step is far larger than one of training.",
        "Size of the weights after one prox step against the size before: projected, true price, group lasso",
    ) as picture:
        ax = picture.axes
        ax.plot([0, reach], [0, reach], color=PALE, lw=0.9)
        ax.plot(size, lasso, color=PALE, ls=(0, (4, 2)), label="group lasso")
        ax.plot(size[size < cut], 0 * size[size < cut], color=ORANGE, lw=1.6, label="true cost (jumps)")
        ax.plot(size[size >= cut], kept[size >= cut], color=ORANGE, lw=1.6)
        ax.plot(size, after, color=BLUE, label="projected penalty")
        _mark(ax, threshold, 0.0, f"zero up to {threshold:.3g}", (0.45 * reach, 0.08 * reach))
        ax.set_xlabel("size of each weight before the step")
        ax.set_ylabel("size after the step")
        ax.set_xlim(0, reach)
        ax.set_ylim(-0.02 * reach, reach)
        ax.legend(loc="upper left")
    return picture


def chain_picture(chain: Mapping[str, Any]) -> Picture:
    """The four values of the bound chain on one axis."""
    names = ["big-M relaxation", "perspective cone", "projected", "exact optimum"]
    values = [float(chain[key]) for key in ("big_m", "cone", "projected", "exact")]
    closed = 100 * float(chain["gap_closed"])
    if not np.isfinite([*values, closed]).all():
        raise ValueError("the bound chain holds a value that is not finite")
    with drawing(
        "From the weak bound to the optimum",
        f"Each value below the optimum is a proof that nothing better exists. The perspective closes {closed:.0f} % of the gap "
        "that the usual big-M formulation leaves, and the projected penalty used in training gives the same value as the cone "
        "program: nothing is lost by projecting.",
        "The values " + ", ".join(f"{n} {v:.5g}" for n, v in zip(names, values, strict=True)) + " on one axis",
        height=2.9,
    ) as picture:
        ax = picture.axes
        low, high = min(values), max(values)
        pad = (high - low) or max(abs(high), 1.0)
        ax.axvline(values[3], color=INK, lw=1.0, ls=(0, (2, 2)))
        for row, (value, color) in enumerate(zip(values, (PALE, GREEN, BLUE, INK), strict=True)):
            ax.plot([low - 0.2 * pad, value], [row, row], color=color, lw=5, solid_capstyle="butt", alpha=0.35)
            ax.plot([value], [row], "o", color=color, ms=9)
            place = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
            ax.annotate(f"{value:.5g}", (value, row), **place, color=INK)
        ax.set_yticks(range(4), names)
        ax.set_ylim(3.5, -0.8)
        ax.set_xlim(low - 0.2 * pad, high + 0.15 * pad)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("objective value: bounds and optimum")
    return picture


def _rows(size: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(size, float)[:, None], NUMBERS, axis=1)


def _full_indicator(num: NumericRegularizer, bound: float) -> float:
    """The size of equal weights from which on the whole price is paid (y* = 1); at most the box."""
    size = np.linspace(0, bound, 4001)[1:]
    return float(size[np.argmax(num.indicator(_rows(size)) >= 1 - 1e-9)])


def _kept(num: NumericRegularizer, size: np.ndarray, step: float) -> np.ndarray:
    """Where a channel is kept at its full price, only the ridge shrinks its weights, and the box cuts them."""
    a, b = num.quadratic or (0.0, 0.0)
    shrunk = np.maximum(0, size - step * b) / (1 + 2 * step * a)
    return shrunk if num.bound is None else np.minimum(shrunk, num.bound)


def _mark(ax: Axes, x: float, y: float, text: str, place: tuple[float, float]) -> None:
    ax.plot([x], [y], "o", color=BLUE, ms=6, zorder=4, clip_on=False)
    arrow = {"arrowstyle": "-", "color": BLUE, "lw": 0.8, "shrinkB": 5}
    ax.annotate(text, (x, y), place, arrowprops=arrow, color=BLUE, fontsize=9.5, va="center")
