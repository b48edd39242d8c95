"""Incumbent and proven lower bound over time: the two lines between which the optimum lies."""

from collections.abc import Sequence

from perspective.drawing import BLUE, INK, ORANGE, Picture, drawing

Point = Sequence[float | None]  # seconds, incumbent, lower bound; None: not known yet


def bounds_picture(history: Sequence[Point], title: str, width: float = 5.6, height: float = 3.4) -> Picture:
    """Picture of `history` (at least one point, in order of time, the last one with both values), in per cent of the best
    value found. Each value holds from its time on."""
    seconds, best, bound = history[-1]
    assert seconds is not None
    assert best is not None
    if bound is None:
        caption = f"best value {best:.6g}; no bound was proved"
    else:
        left = (best - bound) / max(1e-12, abs(best))
        caption = (
            f"best value {best:.6g}, proven bound {bound:.6g}: at most {100 * left:.3g} % left after {seconds:.3g} s"
        )
    with drawing(title, caption, f"{title}: incumbent and lower bound over time; {caption}", width, height) as picture:
        ax, scale = picture.axes, 100 / max(1e-12, abs(best))
        for column, color, name in ((1, ORANGE, "best value found"), (2, BLUE, "proven lower bound")):
            known = [(point[0], point[column]) for point in history if point[column] is not None]
            x = [float(p[0] or 0.0) for p in known]
            y = [scale * float(p[1] or 0.0) for p in known]
            ax.step(x, y, where="post", color=color, label=name)
            ax.plot(x[-1:], y[-1:], "o", color=color, ms=5)
        ax.axhline(100.0 if best >= 0 else -100.0, color=INK, lw=0.8, ls=(0, (2, 2)))
        ax.set_xlim(left=0.0)
        ax.set_xlabel("seconds")
        ax.set_ylabel("% of the best value")
        ax.legend(loc="best")
    return picture
