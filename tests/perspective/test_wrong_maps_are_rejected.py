"""The test of the tests: maps that are wrong in ways seen in public code must break a law."""

import dataclasses

import numpy as np
import pytest

from perspective import LawViolation, NumericRegularizer, check_laws, derive
from perspective.catalogue.spr import spr

PARAMETERS = {"alpha": 0.3, "M": 1.5}
RIGHT = derive(spr()).bind(**PARAMETERS)
NO_BOX = derive(spr(bounded=False)).bind(alpha=0.3)
OTHER = derive(spr()).bind(alpha=0.7, M=1.5)  # alpha and 1 - alpha swapped
KAPPA = (0.3 / 0.7) ** 0.5


def norm(w):
    return np.linalg.norm(w, axis=-1, keepdims=True)


def hard_threshold(v, step):
    return np.where(norm(v) ** 2 > 2 * step * 0.7, np.clip(v / (1 + 0.6 * step), -1.5, 1.5), 0.0)


def group_lasso(v, step):
    return np.maximum(0, 1 - 2 * step * 0.21**0.5 / np.maximum(norm(v), 1e-300)) * v


def elementwise(v, step):
    return RIGHT.prox(v[..., None], step)[..., 0]


def value_without_alpha(w):
    """The first and third case as early public code had them."""
    a, b = np.abs(w).max(-1) / 1.5, KAPPA * np.linalg.norm(w, axis=-1)
    square = (w**2).sum(-1)
    top = np.maximum(np.abs(w).max(-1), 1e-300)
    whole, boxed = square + 0.7, 1.5 * square / top + 0.7 * a
    return np.where(np.maximum(a, b) >= 1, whole, np.where(a <= b, RIGHT.value(w), boxed))


def breakpoint_off_by_one(v, step):
    """The box cuts every weight but the largest."""
    free = NO_BOX.prox(v, step)
    boxed = np.clip(free, -1.5, 1.5)
    k = np.abs(v).argmax(-1)
    boxed[..., k] = free[..., k]
    return boxed


def edge_forgotten(w):
    """Right inside, but where |w|_inf = M the box's share of the slope is missing."""
    on_edge = np.abs(w).max(-1, keepdims=True) >= 1.5
    return np.where(on_edge, 0.6 * np.asarray(w), RIGHT.gradient(w))


WRONG = {
    "prox: identity": {"prox": lambda v, step: np.array(v, dtype=float)},
    "prox: zero": {"prox": lambda v, step: np.zeros_like(v)},
    "prox: half threshold": {"prox": lambda v, step: RIGHT.prox(v, step / 2)},
    "prox: double threshold": {"prox": lambda v, step: RIGHT.prox(v, step * 2)},
    "prox: l0 threshold at the price": {"prox": hard_threshold},
    "prox: group lasso": {"prox": group_lasso},
    "prox: box forgotten": {"prox": NO_BOX.prox},
    "prox: clipped after the fact": {"prox": lambda v, step: np.clip(NO_BOX.prox(v, step), -1.5, 1.5)},
    "prox: breakpoint off by one": {"prox": breakpoint_off_by_one},
    "prox: alpha and price swapped": {"prox": OTHER.prox},
    "prox: weight by weight": {"prox": elementwise},
    "prox: sign lost": {"prox": lambda v, step: np.abs(RIGHT.prox(v, step))},
    "prox: gradient step": {"prox": lambda v, step: v - step * NO_BOX.gradient(v)},
    "prox: weights reversed": {"prox": lambda v, step: RIGHT.prox(v, step)[..., ::-1]},
    "prox: tiny instead of zero": {"prox": lambda v, step: RIGHT.prox(v, step) + 1e-9 * np.asarray(v)},
    "value: big-M relaxation": {"value": lambda w: 0.3 * (w**2).sum(-1) + 0.7 * np.abs(w).max(-1) / 1.5},
    "value: alpha missing in two cases": {"value": value_without_alpha},
    "value: box forgotten": {"value": NO_BOX.value},
    "value: price forgotten": {"value": lambda w: RIGHT.value(w) - 0.7 * RIGHT.indicator(w)},
    "indicator: not cut at one": {"indicator": lambda w: KAPPA * np.linalg.norm(w, axis=-1)},
    "indicator: box forgotten": {"indicator": NO_BOX.indicator},
    "conjugate: maximum with zero forgotten": {"conjugate": lambda z: (z**2).sum(-1) / 1.2 - 0.7},
    "conjugate: box forgotten": {"conjugate": NO_BOX.conjugate},
    "gradient: twice": {"gradient": lambda w: 2 * RIGHT.gradient(w)},
    "gradient: box forgotten": {"gradient": NO_BOX.gradient},
    "gradient: box forgotten on its edge": {"gradient": edge_forgotten},
}


class Wrong:
    """The right maps with some replaced; only what `check_laws` asks of a candidate."""

    def __init__(self, replaced):
        for name in ("value", "indicator", "conjugate", "gradient", "prox"):
            setattr(self, name, replaced.get(name, getattr(RIGHT, name)))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_map_breaks_a_law(name):
    with pytest.raises(LawViolation) as caught:
        check_laws(spr(), candidate=Wrong(WRONG[name]), **PARAMETERS)
    assert caught.value.law
    assert caught.value.point.ndim == 1


def test_the_right_maps_pass_as_a_candidate():
    assert check_laws(spr(), candidate=Wrong({}), **PARAMETERS)
    assert isinstance(RIGHT, NumericRegularizer)
    assert dataclasses.is_dataclass(RIGHT)
