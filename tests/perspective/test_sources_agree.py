"""The torch source computes what the numpy maps compute, in float64 to rounding and in float32 within a stated bound."""

import numpy as np
import pytest
import sympy
import torch

from perspective import IndicatorBlock, InputError, declare, derive
from perspective.catalogue import ALL

NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "M": 1.5}
s = sympy.Symbol("s", positive=True)
BLOCKS = [
    *(make() for make in ALL),
    declare("cosh(s) - 1", "c", "M"),
    declare("a*s**2", "1 - a", "y"),
    IndicatorBlock(sympy.Piecewise((s**2, s <= 1), (2 * s - 1, True)), s, 1),
    IndicatorBlock(s**2 + s, s, 1, bound=1, radial=True),
    IndicatorBlock(s**2, s, 1, bound=2, lower=sympy.Rational(1, 2)),
    declare("alpha*(s**2 + s**4)", "c", "M"),  # roots of plain numbers
    declare("sqrt(3)*alpha*s**2 + log(2)*s", "c"),
]


def load(text):
    namespace = {}
    exec(compile(text, "<source>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: str(b.cost))
def test_torch_equals_numpy(block):
    numbers = {name: NUMBERS.get(name, 0.6) for name in block.parameters}
    regularizer = derive(block)
    number, source = regularizer.bind(**numbers), load(regularizer.source("torch"))
    rng = np.random.default_rng(0)
    v = rng.normal(size=(50, 6)) * 10 ** rng.uniform(-2, 1, size=(50, 1))
    v[0] = 0
    for step in (0.05, 0.7):
        mine = source["prox"](torch.tensor(v), step, **numbers).numpy()
        assert np.abs(mine - number.prox(v, step)).max() <= 1e-12
        single = source["prox"](torch.tensor(v, dtype=torch.float32), step, **numbers)
        assert single.dtype == torch.float32
        assert np.abs(single.numpy() - number.prox(v, step)).max() <= 2e-4 * np.abs(v).max()
    small = np.clip(v, -0.5, 0.5)
    for name in ("value", "indicator", "conjugate", "gradient", "zero_threshold"):
        theirs = getattr(number, name)(small)
        assert np.allclose(source[name](torch.tensor(small), **numbers).numpy(), theirs, rtol=1e-11, atol=1e-13), name


def test_one_number_for_each_row():
    regularizer = derive(declare("alpha*s**2", "1-alpha", "M"))
    source = load(regularizer.source("torch"))
    rng = np.random.default_rng(1)
    v, bounds, steps = rng.normal(size=(20, 4)), rng.uniform(0.2, 2, 20), rng.uniform(0.1, 1, 20)
    mine = source["prox"](torch.tensor(v), torch.tensor(steps)[:, None], alpha=0.2, M=torch.tensor(bounds)[:, None])
    for row, bound, step, answer in zip(v, bounds, steps, mine.numpy(), strict=True):
        assert np.allclose(answer, regularizer.bind(alpha=0.2, M=bound).prox(row, step), rtol=1e-12, atol=1e-14)


def test_nan_in_a_torch_row_stays_in_that_row():
    source = load(derive(declare("alpha*s**2", "1-alpha", "M")).source("torch"))
    v = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
    answer = source["prox"](v, 0.1, alpha=0.3, M=1.5)
    assert answer[0].isnan().all()
    assert answer[1].isfinite().all()


def test_source_needs_only_its_library():
    for target, line in (("numpy", "import numpy as xp"), ("torch", "import torch as xp")):
        text = derive(declare("alpha*s**2", "1-alpha", "M")).source(target)
        assert [x for x in text.splitlines() if x.startswith(("import", "from"))] == ["import functools", line]
        assert "perspective." not in text


def test_names_that_cannot_stand_in_source_are_refused():
    s, bad = sympy.symbols("s lambda", positive=True)
    with pytest.raises(InputError, match="lambda"):
        derive(IndicatorBlock(bad * s**2, s, 1)).source("numpy")
    with pytest.raises(InputError, match="numpy, torch"):
        derive(declare("s**2", "c")).source("julia")
