"""The numba source gives the float64 prox of the numpy source to rounding, for every kind of cost."""

import numpy as np
import pytest
import sympy

from perspective import IndicatorBlock, InputError, derive
from perspective.catalogue.max_norm import max_norm
from perspective.catalogue.saturating import saturating

s, alpha, c, d, M = sympy.symbols("s alpha c d M", positive=True)
NUMBERS = {"alpha": 0.3, "c": 0.7, "d": 0.4, "M": 1.5}
BLOCKS = {
    "no curvature": max_norm(),
    "no closed root": saturating(),
    "radial in a box": IndicatorBlock(alpha * s**2, s, c, bound=M, radial=True),
    "radial, two sides": IndicatorBlock(alpha * s**2, s, c, bound=M, lower=d),
}


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_every_kind_of_cost(name):
    regularizer = derive(BLOCKS[name])
    number = regularizer.bind(**{p: NUMBERS[p] for p in BLOCKS[name].parameters})
    namespace = {"__name__": "derived"}
    exec(compile(regularizer.source("numba"), "<derived numba source>", "exec"), namespace)
    rng = np.random.default_rng(0)
    for n in (1, 2, 30):
        points = rng.normal(size=(60, n)) * 10 ** rng.uniform(-3, 1.5, size=(60, 1))
        points[0] = 0
        points[1, 0] = np.inf
        for step in (0.01, 0.5, 3.0):
            truth = number.prox(points, step)
            answer, y = namespace["prox_and_indicator"](points, step, **number.parameters)
            near = np.abs(points).max(axis=1, keepdims=True)
            assert ((answer == truth) | (np.abs(answer - truth) <= 4e-15 * near)).all()
            assert np.array_equal(answer == 0, truth == 0)
            inside = (truth != 0).any(axis=1) & np.isfinite(points).all(axis=1)
            assert np.allclose(y[inside], number.indicator(truth[inside]), rtol=1e-9, atol=1e-12)

    points = np.ones((3, 4))
    points[1, 2] = np.nan
    answer = namespace["prox"](points, 0.1, **number.parameters)  # not-a-number marks its row, and no other
    assert np.array_equal(np.isnan(answer).all(axis=1), [False, True, False])
    assert np.isfinite(answer[[0, 2]]).all()


def test_a_parameter_with_a_name_of_pythons_is_refused():
    with pytest.raises(InputError, match="rename"):
        derive(IndicatorBlock(sympy.Symbol("max", positive=True) * s**2, s, c)).source("numba")
