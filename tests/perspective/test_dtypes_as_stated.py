"""Single and half precision, and the ends of the number line: what the torch source promises for each, and keeps.

Errors are against the float64 maps on the same (already rounded) inputs.
"""

from dataclasses import replace

import numpy as np
import pytest
import sympy
import torch

from perspective import IndicatorBlock, InputError, derive
from perspective.catalogue import ALL

NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "M": 1.5, "d": 0.4}
SINGLE, HALF = torch.float32, torch.bfloat16
# The stated table. prox: error of any weight, relative to the largest |v| of its group. value, conjugate and threshold:
# relative (conjugate: to itself plus the price). zero: outside this relative distance of the step from the threshold
# T(v), a group is exactly zero where the float64 map says zero, and only there.
STATED = {
    SINGLE: {"prox": 2e-6, "value": 2e-6, "conjugate": 4e-6, "threshold": 4e-6, "zero": 1e-5},
    HALF: {"prox": 4e-3, "value": 4e-3, "conjugate": 4e-3, "threshold": 4e-3, "zero": 8e-3},
}
STEPS = (0.02, 0.3, 1.0)


S, ALPHA, PRICE, BOUND = sympy.symbols("s alpha c M", positive=True)
ROOT = IndicatorBlock(ALPHA * (sympy.sqrt(1 + S**2) - 1), S, PRICE / 10)


def unboxed(name):
    """A block of the catalogue without its box."""
    return replace(next(make for make in ALL if make.__name__ == name)(), bound=None)


def boxed_cosh():
    return replace(unboxed("hyperbolic"), bound=BOUND)


ENDS = {make.__name__: make for make in ALL} | {
    "saturating_free": lambda: unboxed("saturating"),
    "huber_free": lambda: unboxed("huber"),
    "elastic_free": lambda: unboxed("elastic"),
    "root": lambda: ROOT,
    "cosh_in_a_box": boxed_cosh,
}


def load(text):
    namespace = {}
    exec(compile(text, "<source>", "exec"), namespace)
    return namespace


@pytest.fixture(scope="module", params=ALL, ids=lambda make: make.__name__)
def maps(request):
    """(float64 maps, torch source, parameters) of one block of the catalogue."""
    block = request.param()
    numbers = {name: NUMBERS[name] for name in block.parameters}
    regularizer = derive(block)
    return regularizer.bind(**numbers), load(regularizer.source("torch")), numbers


@pytest.fixture(scope="module", params=ENDS)
def ends(request):
    """The same, and more costs: fractions and roots whose powers overflow, exponentials in a box."""
    block = ENDS[request.param]()
    numbers = {name: NUMBERS[name] for name in block.parameters}
    regularizer = derive(block)
    return regularizer.bind(**numbers), load(regularizer.source("torch")), numbers


def groups(dtype, size=9, rows=200):
    rng = np.random.default_rng(0)
    return torch.tensor(rng.normal(size=(rows, size)) * 10 ** rng.uniform(-2, 1, size=(rows, 1)), dtype=dtype)


def exact(tensor):
    return tensor.double().numpy()


@pytest.mark.parametrize("dtype", STATED, ids=str)
@pytest.mark.parametrize("size", [1, 9, 288])
def test_prox_error_is_within_the_table(maps, dtype, size):
    number, source, numbers = maps
    v = groups(dtype, size, 60 if size > 9 else 200)
    largest = np.abs(exact(v)).max(axis=1, keepdims=True)
    for step in STEPS:
        mine, truth = source["prox"](v, step, **numbers), number.prox(exact(v), step)
        assert mine.dtype == dtype
        assert (np.abs(exact(mine) - truth) / largest).max() <= STATED[dtype]["prox"]


@pytest.mark.parametrize("dtype", STATED, ids=str)
def test_other_errors_are_within_the_table(maps, dtype):
    number, source, numbers = maps
    v, table = groups(dtype), STATED[dtype]
    w = source["prox"](v, 0.05, **numbers) * 0.9  # inside any box
    for name, x, key, floor in (
        ("value", w, "value", 1e-30),
        ("conjugate", v, "conjugate", number.price),
        ("zero_threshold", v, "threshold", 1e-30),
    ):
        mine, truth = source[name](x, **numbers), getattr(number, name)(exact(x))
        assert mine.dtype == dtype
        known = np.isfinite(truth) & (truth < 1e38)  # cosh's conjugate may be larger than single precision holds
        error = np.abs(exact(mine)[known] - truth[known]) / (truth[known] + floor)
        assert error.max() <= table[key], name
    for name in ("indicator", "gradient"):
        mine = source[name](w, **numbers)
        assert mine.dtype == dtype
        assert np.isfinite(exact(mine)).all()


@pytest.mark.parametrize("dtype", STATED, ids=str)
def test_zeros_are_exact_away_from_the_threshold(maps, dtype):
    number, source, numbers = maps
    v, margin = groups(dtype), STATED[dtype]["zero"]
    threshold = torch.tensor(number.zero_threshold(exact(v)))[:, None]
    gone = source["prox"](v, (threshold * (1 + 2 * margin)).to(dtype), **numbers)
    stays = source["prox"](v, (threshold * (1 - 2 * margin)).to(dtype), **numbers)
    alive = threshold[:, 0] > 0  # nonnegative weights: a group without a positive entry is always zero
    assert (gone == 0).all()
    assert (stays[alive] != 0).any(dim=1).all()
    assert not torch.signbit(gone).any()


@pytest.mark.parametrize("dtype", [torch.float64, SINGLE, HALF], ids=str)
def test_denormals_stay_finite_and_ordered(maps, dtype):
    _, source, numbers = maps
    tiny = torch.finfo(dtype).tiny
    base = torch.tensor([[1.0, -0.5, 0.25], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    for scale in (tiny / 4, tiny / 64):
        v = (base * scale).to(dtype)
        for step in (1e-3, 1.0, 1e3):
            w = source["prox"](v, step, **numbers)
            assert w.isfinite().all()
            assert (w.abs() <= v.abs()).all()
            assert (w * torch.sign(v) >= 0).all()
            assert not w[1].any()
        assert not source["zero_threshold"](v, **numbers).isnan().any()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", STATED, ids=str)
def test_thirty_orders_of_magnitude_keep_the_table(maps, dtype, scale):
    number, source, numbers = maps
    v = groups(dtype) / groups(dtype).abs().amax(dim=1, keepdim=True) * scale
    for step in STEPS:
        mine, truth = exact(source["prox"](v, step, **numbers)), number.prox(exact(v), step)
        assert np.abs(mine - truth).max() <= STATED[dtype]["prox"] * scale


@pytest.mark.parametrize("dtype", [torch.float64, SINGLE, HALF], ids=str)
def test_infinite_entries_give_the_limit(maps, dtype):
    """Beside an infinite weight the price is paid (y = 1): each other weight is the prox of step phi alone, in its box."""
    number, source, numbers = maps
    if number.regularizer.block.radial:
        pytest.skip("a radial cost has no separate weights")
    v = torch.tensor([[torch.inf, 0.3, 2.0], [0.2, 0.3, 0.0], [0.3, torch.inf, torch.inf]], dtype=dtype)
    w = exact(source["prox"](v, 0.1, **numbers))
    edge = np.inf if number.bound is None else number.bound
    error = STATED.get(dtype, {"prox": 1e-12})["prox"]
    assert np.isfinite(w[1]).all()
    for row in (0, 2):
        for got, entry in zip(w[row], exact(v)[row], strict=True):
            wanted = edge if np.isinf(entry) else min(edge, scalar_prox(number, entry, 0.1))
            assert got == wanted or abs(got - wanted) <= 4 * error, (row, entry)
    if dtype == torch.float64:
        assert np.allclose(w, number.prox(exact(v), 0.1), rtol=1e-14)


def scalar_prox(number, v, step):
    """Bisection on s + step phi'(s) = v, s >= 0."""
    low, high = 0.0, v
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if middle + step * float(number.cost_derivative(middle)) < v else (low, middle)
    return low


@pytest.mark.parametrize("dtype", [torch.float64, SINGLE, HALF], ids=str)
def test_nothing_becomes_nan_at_the_ends(ends, dtype):
    _, source, numbers = ends
    limits = torch.finfo(dtype)
    sizes = [limits.tiny / 64, limits.tiny, limits.max / 8, limits.max, torch.inf]
    rows = [[x, -0.5 * x, y] for x in sizes for y in (0.0, 0.3, 1e30)]
    v = torch.tensor(rows, dtype=dtype)
    for name in ("value", "indicator", "conjugate", "gradient", "zero_threshold"):
        answer = source[name](v, **numbers)
        assert not answer.isnan().any(), name
        assert name != "indicator" or ((answer >= 0) & (answer <= 1)).all()
    for step in (1e-3, 1.0, 1e3):
        w = source["prox"](v, step, **numbers)
        assert not w.isnan().any()
        assert (w.abs() <= v.abs()).all()


@pytest.mark.parametrize("dtype", STATED, ids=str)
def test_every_map_keeps_the_table_at_the_ends(ends, dtype):
    """Numbers near the ends of single precision are ordinary ones for the float64 maps."""
    number, source, numbers = ends
    tiny = torch.finfo(dtype).tiny
    base = torch.tensor([[1.0, -0.5, 0.25], [1.0, 0.0, -0.125], [0.125, 0.5, 1.0]], dtype=torch.float64)
    v = torch.cat([base * x for x in (tiny / 16, tiny, 1e-30, 1e30)] + [torch.tensor([[1e30, 0.31, 1e-30]])]).to(dtype)
    largest, bound = np.abs(exact(v)).max(axis=1, keepdims=True), number.bound
    inside = np.full(len(v), True) if bound is None else np.linalg.norm(exact(v), axis=1) <= bound
    table, coarsest = STATED[dtype], tiny * torch.finfo(dtype).eps  # the spacing of denormals
    for name, key, floor in (
        ("value", "value", 0),
        ("indicator", "value", 0),
        ("conjugate", "conjugate", number.price),
        ("zero_threshold", "threshold", 0),
    ):
        mine, truth = exact(source[name](v, **numbers)), getattr(number, name)(exact(v))
        over = truth >= torch.finfo(dtype).max
        assert np.array_equal(mine[over], np.full(over.sum(), np.inf)), name
        error = np.abs(mine[~over] - truth[~over])
        assert (error <= table[key] * (truth[~over] + floor) + coarsest).all(), name
    mine, truth = exact(source["gradient"](v, **numbers))[inside], number.gradient(exact(v)[inside])
    held = np.abs(truth) < torch.finfo(dtype).max
    error = np.abs(mine[held] - truth[held]) / np.broadcast_to(np.abs(truth).max(axis=1, keepdims=True), truth.shape)[
        held
    ].clip(1e-300)
    assert (error <= 8 * table["value"]).all()
    for step in (0.1, 1.0):
        assert (
            np.abs(exact(source["prox"](v, step, **numbers)) - number.prox(exact(v), step)) <= table["prox"] * largest
        ).all()


def test_float64_is_homogeneous_down_to_its_denormals(ends):
    """Below every number of the block y* < 1, so r(k w) = k r(w), T(k w) = k T(w), and gradients do not change."""
    number, _, _ = ends
    w = np.array([[1.0, 0.5, 0.25], [0.0, 1.0, 0.125]])
    for name, degree in (("value", 1), ("indicator", 1), ("zero_threshold", 1), ("gradient", 0)):
        call = getattr(number, name)
        for small in (2.0**-1000, 2.0**-1040):
            near, far = call(w * 2.0**-100) / 2.0 ** (-100 * degree), call(w * small) / small**degree
            assert np.allclose(near, far, rtol=1e-9), name


def test_costs_that_end_in_a_line_are_that_line_far_out():
    """phi(s) -> steepest s: value, gradient and prox at 1e300 are those of the line, whatever phi is near zero."""
    for block, slope in ((unboxed("saturating"), 0.3), (unboxed("huber"), 0.24), (ROOT, 0.3)):
        numbers = {name: NUMBERS[name] for name in block.parameters}
        number = derive(block).bind(**numbers)
        w = np.array([[1e300, -5e299, 1e299]])
        assert np.allclose(number.value(w), slope * 1.6e300, rtol=1e-12)
        assert np.allclose(number.gradient(w), slope * np.sign(w), rtol=1e-12)
        assert np.allclose(number.prox(w, 1e299), w - slope * 1e299 * np.sign(w), rtol=1e-12)


def test_prox_is_homogeneous_down_to_1e_300(ends):
    """y* < 1, also where the search starts at a y* = 0 without a finite root: prox_{k step}(k v) = k prox_step(v)."""
    number, _, _ = ends
    v = np.array([[1.0, -0.5, 0.25], [0.0, 1.0, 0.125], [0.3, 0.3, 0.3]])
    for step in (0.02, 0.2, 1.0):
        near = number.prox(v * 2.0**-60, step * 2.0**-60) / 2.0**-60
        far = number.prox(v * 2.0**-990, step * 2.0**-990) / 2.0**-990
        assert np.allclose(near, far, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("cost", "right", "wrong"),
    [
        ("hyperbolic", "(a == xp.inf) | ", ""),
        ("saturating", "s > 1e4", "s > xp.inf"),
        ("huber", "_legendre_top(theta), xp.full_like(y, xp.inf))", "xp.inf, xp.full_like(y, xp.inf))"),
        ("hyperbolic", "1 / EPSILON(a))", "1.0)"),
    ],
)
def test_each_guard_is_needed(cost, right, wrong):
    """The text with one guard taken out gives another answer at the ends."""
    block = unboxed(cost)
    text = derive(block).source("torch")
    assert right in text
    numbers = {name: NUMBERS[name] for name in block.parameters}
    tiny, infinite = torch.tensor([[4.2e-45, 1.4e-45]]), torch.tensor([[torch.inf] + [0.3] * 18])
    large, answers = torch.tensor([[1e30, 5e29, 2e29]]), []
    for source in (load(text), load(text.replace(right, wrong))):
        points = [
            source["prox"](infinite, 0.1, **numbers),
            source["value"](large, **numbers),
            source["gradient"](tiny, **numbers),
        ]
        answers.append(torch.cat([x.reshape(-1) for x in points]))
    assert not torch.allclose(*answers, rtol=1e-3, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float64, SINGLE, HALF], ids=str)
def test_nan_marks_its_row_and_no_other(maps, dtype):
    number, source, numbers = maps
    w = source["prox"](torch.tensor([[torch.nan, 0.3], [2.0, 0.3]], dtype=dtype), 0.1, **numbers)
    assert w[0].isnan().all()
    assert w[1].isfinite().all()
    with pytest.raises(InputError, match="NaN"):
        number.prox(np.array([np.nan, 0.3]), 0.1)


def test_numpy_maps_answer_in_float64_whatever_comes_in(maps):
    number, _, _ = maps
    v = exact(groups(SINGLE))
    for kind in (np.float16, np.float32):
        x = v.astype(kind)
        assert number.prox(x, 0.1).dtype == np.float64
        assert np.array_equal(number.prox(x, 0.1), number.prox(x.astype(np.float64), 0.1))
    assert np.array_equal(number.prox([[2, 0, -1]], 1), number.prox(np.array([[2.0, 0.0, -1.0]]), 1.0))
