"""What must be true of every regulariser, checked at chosen points against an oracle that knows only the declaration."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perspective.block import IndicatorBlock
from perspective.derive import derive
from perspective.numeric import NumericRegularizer
from perspective.oracle import Oracle, consult

Array = NDArray[np.float64]


class LawViolation(AssertionError):
    """A law does not hold: `law` names it, `point` is where (the array that shows it)."""

    def __init__(self, law: str, point: Array, detail: str) -> None:
        super().__init__(f"law broken: {law}, at {np.array2string(np.asarray(point), precision=6)}: {detail}")
        self.law = law
        self.point = np.asarray(point)


@dataclass(frozen=True)
class Trial:
    """One check: the maps under test, the truth, the group's points, and a prox step for each."""

    maps: NumericRegularizer
    oracle: Oracle
    points: tuple[Array, ...]
    steps: tuple[float, ...]

    def require(self, holds: bool, law: str, point: Array, detail: str) -> None:
        if not holds:
            raise LawViolation(law, point, detail)


def check_laws(
    block: IndicatorBlock, *, candidate: NumericRegularizer | None = None, **parameters: float
) -> tuple[str, ...]:
    """Check every law of the block's regulariser at a few dozen points; the names of the laws checked, or LawViolation.

    `candidate` replaces the derived maps by others with the same methods: this is how wrong maps are shown to be caught.
    Takes a few seconds. InputError for bad parameters.
    """
    derived = derive(block).bind(**parameters)
    maps = derived if candidate is None else candidate
    points, steps = _points(derived)
    trial = Trial(maps, consult(block, parameters), points, steps)
    for law in LAWS:
        law(trial)
    return tuple(law.__name__.replace("_", " ") for law in LAWS)


def value_is_the_minimum_over_y(t: Trial) -> None:
    """Law 1: r(w) = min over y of the perspective, and y*(w) attains it."""
    for w in _inside(t):
        truth, _ = t.oracle.value(w)
        mine, y = float(t.maps.value(w)), float(t.maps.indicator(w))
        t.require(_close(mine, truth), "value = minimum over y", w, f"value {mine!r}, oracle {truth!r}")
        t.require(0 <= y <= 1, "the indicator lies in [0, 1]", w, f"y* = {y!r}")
        if w.any():
            attained = float(t.oracle.perspective(w, np.array([max(y, 1e-12)]))[0])  # y* = 0: the price is never paid
            a, bound = t.oracle.magnitudes(w)
            boxed = np.isfinite(bound)
            fits = bool(np.all(a[boxed] <= bound[boxed] * y * (1 + 1e-12)))
            t.require(
                fits and _close(attained, truth), "y* attains the minimum", w, f"P(w, y*) = {attained!r}, r = {truth!r}"
            )
        else:
            t.require(y == 0, "the indicator of a zero group is zero", w, f"y* = {y!r}")


def value_is_below_the_exact_cost(t: Trial) -> None:
    """Law 2: r never exceeds the cost at y in {0, 1}; equal where y* = 1 or w = 0; infinite outside the box."""
    for w in _inside(t):
        exact = float(t.oracle.perspective(w, np.ones(1))[0]) if w.any() else 0.0
        mine = float(t.maps.value(w))
        t.require(mine <= exact * (1 + 1e-12), "value <= exact cost", w, f"{mine!r} > {exact!r}")
        if float(t.maps.indicator(w)) == 1 or not w.any():
            t.require(_close(mine, exact), "value = exact cost where y* = 1", w, f"{mine!r}, exact {exact!r}")
    outside = [np.array([1.001, 0.1]) * t.oracle.bound] if np.isfinite(t.oracle.bound) else []
    outside += [np.array([-1.001 * t.oracle.lower - 1e-6, 0.0])] if np.isfinite(t.oracle.lower) else []
    for w in outside:
        t.require(bool(np.isinf(t.maps.value(w))), "infinite outside the box", w, "the value is finite")


def value_is_convex_and_continuous(t: Trial) -> None:
    """Law 3: midpoint convexity between points, and no jump where the indicator reaches 1."""
    inside = _inside(t)
    for first in inside:
        for second in inside:
            if first.shape == second.shape:
                middle = (first + second) / 2
                bound = (float(t.maps.value(first)) + float(t.maps.value(second))) / 2
                mine = float(t.maps.value(middle))
                t.require(mine <= bound * (1 + 1e-10) + 1e-300, "convex", middle, f"{mine!r} above the chord {bound!r}")
    for w in inside:
        if w.any():
            y = float(t.maps.indicator(w))
            edge = w / y if 0 < y < 1 else w
            below, above = (float(t.maps.value(edge * (1 - e))) for e in (1e-9, 1e-10))
            t.require(abs(below - above) <= 1e-6 * (1 + abs(above)), "continuous", edge, f"jump {below!r} -> {above!r}")


def prox_is_the_global_minimiser(t: Trial) -> None:
    """Law 4: objective and point of the prox equal the global oracle's."""
    for v, step in zip(t.points, t.steps, strict=True):
        mine = t.maps.prox(v, step)
        objective = float(0.5 * np.sum((mine - v) ** 2) + step * t.oracle.value(mine)[0])
        point, truth = t.oracle.prox(v, step)
        scale = 1e-300 + 0.5 * float(v @ v)
        t.require(
            objective <= truth + 1e-9 * scale,
            "prox objective = global oracle",
            v,
            f"{objective!r} > {truth!r} at {step=}",
        )
        gap = float(np.linalg.norm(mine - point))
        t.require(
            gap <= 2e-4 * float(np.linalg.norm(v)), "prox point = global oracle", v, f"{mine} for {point} at {step=}"
        )
        t.require(_is_zero_where_it_must(t, v, step, mine), "exact zeros at the threshold", v, f"{mine} at {step=}")


def moreau(t: Trial) -> None:
    """Law 5: (v - p)/step is a subgradient at p = prox(v): r(p) + r*(z) = p.z with the oracle's own conjugate."""
    for v, step in zip(t.points, t.steps, strict=True):
        p = t.maps.prox(v, step)
        z = (v - p) / step
        left = t.oracle.value(p)[0] + t.oracle.conjugate(z)
        scale = float(np.abs(p * z).sum()) + left + t.oracle.price + float(z @ z) * 1e-3
        t.require(
            abs(left - float(p @ z)) <= 1e-7 * scale, "Moreau", v, f"r(p) + r*(z) = {left!r}, p.z = {float(p @ z)!r}"
        )


def fenchel_young(t: Trial) -> None:
    """Law 6: the conjugate is the oracle's; r(w) + r*(z) >= w.z, with equality where z is the gradient at w."""
    for z in t.points:
        mine, truth = float(t.maps.conjugate(z)), t.oracle.conjugate(z)
        same = mine == truth or abs(mine - truth) <= 1e-8 * (abs(truth) + t.oracle.price)
        t.require(same, "conjugate = supremum", z, f"{mine!r}, oracle {truth!r}")
    for w in _inside(t) + _on_the_edge(t):
        z = t.maps.gradient(w)
        left = float(t.maps.value(w)) + t.oracle.conjugate(z)
        scale = abs(left) + t.oracle.price
        t.require(
            abs(left - float(w @ z)) <= 1e-7 * scale,
            "Fenchel-Young equality at the gradient",
            w,
            f"{left!r}, {w @ z!r}",
        )


def prox_is_firmly_nonexpansive(t: Trial) -> None:
    """Law 7: |p - q|^2 <= (p - q).(u - v)."""
    for u in t.points:
        for v in t.points:
            if u.shape == v.shape:
                d = t.maps.prox(u, t.steps[0]) - t.maps.prox(v, t.steps[0])
                left, right = float(d @ d), float(d @ (u - v))
                t.require(
                    left <= right + 1e-10 * float((u - v) @ (u - v)), "firmly non-expansive", u, f"{left} > {right}"
                )


def limits(t: Trial) -> None:
    """Law 8: a vanishing step moves nothing inside the box; a huge step removes everything."""
    for v in _inside(t):
        gone = t.maps.prox(v, 1e12 * (1 + float(np.abs(v).max())))
        t.require(not gone.any(), "a huge step removes the group", v, f"{gone}")
        tiny = 1e-12 * (float(np.abs(v).max()) + 1e-12)
        slope = 1 + float(np.linalg.norm(t.maps.gradient(v)))
        stays = np.linalg.norm(t.maps.prox(v, tiny) - v) <= 2 * tiny * slope + 1e-14
        t.require(bool(stays), "a vanishing step moves nothing", v, f"{t.maps.prox(v, tiny)}")


def symmetry(t: Trial) -> None:
    """Law 9: signs and order do not matter; zeros appended to a group change nothing; rows are independent."""
    for v, step in zip(t.points, t.steps, strict=True):
        p = t.maps.prox(v, step)
        sign = -1 if t.oracle.lower == t.oracle.bound else 1  # a one-sided box has no mirror
        flipped = sign * t.maps.prox(sign * v[::-1], step)
        tolerance = 1e-12 * float(np.abs(v).max())
        t.require(np.allclose(flipped, p[::-1], rtol=0, atol=tolerance), "symmetric", v, f"{p} and {flipped}")
        padded = t.maps.prox(np.append(v, 0.0), step)
        t.require(np.allclose(padded, np.append(p, 0.0), rtol=0, atol=tolerance), "zeros add nothing", v, f"{padded}")
        t.require(
            bool(np.all(p * v >= 0) and np.all(np.abs(p) <= np.abs(v) * (1 + 1e-12))), "the prox shrinks", v, f"{p}"
        )
    for w in _inside(t):
        sign = -1 if t.oracle.lower == t.oracle.bound else 1
        same = _close(float(t.maps.value(np.append(w, 0.0))), float(t.maps.value(sign * w[::-1])))
        t.require(same, "zeros and signs add nothing", w, "the value changes")


LAWS: tuple[Callable[[Trial], None], ...] = (
    value_is_the_minimum_over_y,
    value_is_below_the_exact_cost,
    value_is_convex_and_continuous,
    prox_is_the_global_minimiser,
    moreau,
    fenchel_young,
    prox_is_firmly_nonexpansive,
    limits,
    symmetry,
)


def _points(derived: NumericRegularizer) -> tuple[tuple[Array, ...], tuple[float, ...]]:
    """Groups of 1 to 9 weights around the scale at which the indicator reaches 1, with zeros, ties and outliers."""
    rng = np.random.default_rng(20220614)
    points: list[Array] = []
    for n in (1, 2, 5, 9):
        base = rng.normal(size=n)
        reach = _reach(derived, base)
        base = np.abs(base) if derived.regularizer.block.lower == 0 and n in (2, 9) else base
        points += [base * reach * factor for factor in (0.02, 0.5, 0.98, 1.5)]
    spike = np.array([1.0, 1e-3, 0.0, -1e-3])
    points += [spike * _reach(derived, spike) * factor for factor in (0.3, 0.9)]
    ties = np.array([1.0, -1.0, 0.5, 0.0])
    points += [ties * _reach(derived, ties) * factor for factor in (0.6, 2.0)]
    points.append(np.zeros(3))
    steps = []
    for i, point in enumerate(points):
        threshold = float(derived.zero_threshold(point)) or 1.0
        steps.append(threshold * (0.3, 0.9, 0.01, 1.1)[i % 4])
    return tuple(points), tuple(steps)


def _reach(derived: NumericRegularizer, direction: Array) -> float:
    """The factor at which y*(factor * direction) becomes 1, by bisection on the derived indicator."""
    low, high = 1e-6, 1e6
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if float(derived.indicator(direction * middle)) < 1 else (low, middle)
    return high


def _inside(t: Trial) -> list[Array]:
    return [w for w in t.points if t.oracle.contains(w)]


def _on_the_edge(t: Trial) -> list[Array]:
    """Points scaled to the edge of the box, where the prox puts them."""
    edge = []
    for w in t.points:
        a, bound = t.oracle.magnitudes(w)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = float(np.max(np.where(a > 0, a / bound, 0.0)))
        if 0 < share < np.inf:
            scaled = w / share
            edge += [np.clip(scaled, -t.oracle.lower, t.oracle.bound)] if not t.oracle.ball else [scaled * (1 - 1e-12)]
    return edge


def _is_zero_where_it_must(t: Trial, v: Array, step: float, mine: Array) -> bool:
    surplus = float(t.oracle.conjugate_terms(v / step).sum()) - t.oracle.price
    if abs(surplus) <= 1e-7 * t.oracle.price:
        return True  # too close to the threshold for the oracle to tell
    return bool(mine.any()) == (surplus > 0)


def _close(mine: float, truth: float) -> bool:
    return abs(mine - truth) <= 1e-8 * abs(truth) + 1e-300
