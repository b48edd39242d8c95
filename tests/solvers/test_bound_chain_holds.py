"""big-M relaxation <= perspective cone = projected relaxation <= exact optimum, on every kind of layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES, make_layer, optimum_by_least_squares

from perspective import CheckFailed
from solvers import bound_chain
from solvers.chain import gap_closed, verify_order


@pytest.mark.parametrize("case", CASES)
def test_chain_holds_and_its_certificate_checks(case: str) -> None:
    problem = make_layer(3, **CASES[case])
    chain = bound_chain(problem)
    slack = 1e-6 * abs(chain.exact)
    assert chain.big_m <= chain.cone + slack
    assert chain.cone == pytest.approx(chain.projected, abs=slack)
    assert chain.projected <= chain.exact + slack
    assert chain.lower_bound <= chain.exact
    assert chain.lower_bound >= chain.exact - 2e-6 * abs(chain.exact)
    assert 0 <= chain.gap_closed <= 1
    assert chain.status == "optimal"
    assert len(chain.indicators) == problem.n_groups
    chain.certificate.check(problem)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    strength=st.floats(0.1, 50),
    alpha=st.floats(0.02, 0.98),
    bound=st.sampled_from([None, 0.2, 1.0, 5.0]),
)
def test_exact_is_the_optimum_another_library_finds(
    seed: int, sizes: list[int], strength: float, alpha: float, bound: float | None
) -> None:
    problem = make_layer(seed, sizes=tuple(sizes), strength=strength, alpha=alpha, bound=bound)
    chain = bound_chain(problem)
    assert chain.exact == pytest.approx(optimum_by_least_squares(problem), rel=1e-6, abs=1e-9)
    assert chain.lower_bound <= chain.exact


def test_chain_is_strict_and_interesting_on_a_strong_price() -> None:
    chain = bound_chain(make_layer(1, sizes=(2,) * 6, strength=8.0))
    assert chain.big_m < chain.projected - 1e-3
    assert chain.projected < chain.exact - 1e-3
    assert 0 < sum(chain.indicators) < 6
    assert 0.1 < chain.gap_closed < 0.999


@pytest.mark.parametrize(
    "values",
    [(2.0, 1.0, 1.0, 3.0), (0.5, 1.0, 1.1, 3.0), (0.5, 3.5, 3.5, 3.0), (0.5, np.nan, 1.0, 3.0)],
    ids=["big-M above", "cone and projected differ", "relaxation above the optimum", "not a number"],
)
def test_a_broken_chain_is_reported(values: tuple[float, float, float, float]) -> None:
    with pytest.raises(CheckFailed, match=r"chain is broken|value is nan"):
        verify_order(*values)


def test_gap_closed_has_its_limits() -> None:
    assert gap_closed(1.0, 1.0, 1.0) == 1.0
    assert gap_closed(0.0, 0.0, 1.0) == 0.0
    assert gap_closed(0.0, 0.25, 1.0) == 0.25
    assert gap_closed(0.0, 1.0 + 1e-9, 1.0) == 1.0
