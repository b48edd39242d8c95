"""Every block of the catalogue, and random SPR blocks, obey every law against the global oracle."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perspective import check_laws, declare
from perspective.catalogue import ALL
from perspective.catalogue.spr import spr

NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "M": 1.5}
MORE = [
    ("cosh(s) - 1", "c", "M"),
    ("s**2/(1 + s)", "c", None),
    ("alpha*s**3", "c", "M"),
    ("alpha*s**4 + beta*s**2", "c", "M"),
    ("alpha*s", "c", "M"),
    ("alpha*s**2 + beta*s", "1 - alpha", None),
]


@pytest.mark.parametrize(
    "block", [make() for make in ALL] + [declare(*text) for text in MORE], ids=lambda b: str(b.cost)
)
def test_laws_of_every_cost(block):
    checked = check_laws(block, **{name: NUMBERS[name] for name in block.parameters})
    assert len(checked) == 9


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.5, 0.999])
def test_laws_of_spr_over_the_published_alphas(alpha, bounded):
    parameters = {"alpha": alpha, "M": 0.2} if bounded else {"alpha": alpha}
    assert check_laws(spr(bounded), **parameters)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(alpha=st.floats(1e-3, 0.999), log_bound=st.floats(-4, 4))
def test_laws_of_random_spr_blocks(alpha, log_bound):
    assert check_laws(spr(), alpha=alpha, M=10**log_bound)
