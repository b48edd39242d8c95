"""The Triton kernel's prox on CPU tensors, by Triton's interpreter: run by test_fused_triton_is_the_loop.py in a process of its
own.

python tests/nets/interpreted_prox.py NAME      (with TRITON_INTERPRET=1; asserts, and says nothing)
"""

import copy
import os
import sys

assert os.environ.get("TRITON_INTERPRET") == "1", "set it before triton is imported"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from ragged_groups import ragged  # noqa: E402
from torch import nn  # noqa: E402

from nets.fused.segments import build_segments  # noqa: E402
from nets.fused.triton_sweep import Pace, run_on_device  # noqa: E402
from nets.groups import ChannelGroups  # noqa: E402
from nets.prox import prox_step  # noqa: E402
from nets.structures.slices import Layer, Span  # noqa: E402
from perspective import InputError, declare, derive  # noqa: E402
from perspective.catalogue.elastic import elastic  # noqa: E402
from perspective.catalogue.huber import huber  # noqa: E402
from perspective.catalogue.power import power  # noqa: E402
from perspective.catalogue.spr import spr  # noqa: E402

COSTS = {
    "spr": derive(spr()),
    "elastic": derive(elastic()),
    "power": derive(power()),
    "huber": derive(huber(bounded=False)),
    "users": derive(declare("a*(cosh(s) - 1)", price="c", bound="M")),
    "radial": derive(declare("alpha*s**2", price="c", bound="M", radial=True)),
}
NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "d": 0.4, "M": 1.5, "a": 0.4}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}  # of a group's largest number


def bound(name, groups):
    """A regulariser for each layer, each with its own box."""
    names = COSTS[name].block.parameters
    each = [{**NUMBERS, "M": 0.3 + 0.4 * i} for i in range(len(groups.layers))]
    return {
        layer.name: COSTS[name].bind(**{p: numbers[p] for p in names})
        for layer, numbers in zip(groups.layers, each, strict=True)
    }


def steps_of(groups, step):
    return {layer.name: step * (1 + i) for i, layer in enumerate(groups.layers)}


def looped(groups, steps, regularisers):
    """The rows after the loop's step, in a copy."""
    twin = copy.deepcopy(groups)
    prox_step(twin, steps, regularisers, "loop")
    return [twin.rows(layer) for layer in twin.layers]


def swept(groups, steps, regularisers, **options):
    """The rows after the kernel's step, in a copy; and its report."""
    twin = copy.deepcopy(groups)
    report = run_on_device(build_segments(twin), twin, steps, regularisers, report=True, **options)
    return [twin.rows(layer) for layer in twin.layers], report


def assert_same(got, loop, before, allowed):
    for a, b, v in zip(got, loop, before, strict=True):
        size = v.double().abs().amax(dim=1, keepdim=True).clamp(min=1e-30) if v.numel() else 1.0
        assert ((a.double() - b.double()).abs() / size <= allowed).all()
        assert torch.equal(a == 0, b == 0)


def every_cost_and_size():
    for cost, dtype, sizes in (
        *((cost, torch.float64, (1, 31)) for cost in COSTS),
        *((cost, torch.float32, (31,)) for cost in COSTS),
        *((cost, torch.float32, (1023, 4609)) for cost in ("spr", "elastic", "power", "huber")),
        ("spr", torch.float32, (9000,)),
        ("huber", torch.float64, (8193,)),
    ):
        groups = ragged(sizes, channels=3, dtype=dtype)
        steps, regularisers = steps_of(groups, 0.03), bound(cost, groups)
        before = [groups.rows(layer) for layer in groups.layers]
        got, report = swept(groups, steps, regularisers)
        assert_same(got, looped(groups, steps, regularisers), before, TOLERANCE[dtype])
        for layer, rows in zip(groups.layers, got, strict=True):
            start = build_segments(groups).start_of[layer.name]
            found = report[start : start + layer.channels].double()
            wide = rows.double().numpy()
            assert torch.equal(found[:, 3] == 0, (rows != 0).any(dim=1))
            worth = regularisers[layer.name].value(wide / (1 + 1e-7))  # float32 may lie a rounding outside its box
            assert np.allclose(found[:, 1], worth, rtol=1e-4 if dtype == torch.float32 else 1e-6, atol=1e-6)
            alive = found[:, 3].numpy() == 0
            y = regularisers[layer.name].indicator(wide)
            assert np.allclose(found[alive, 0], y[alive], rtol=1e-4 if dtype == torch.float32 else 1e-8)


@settings(max_examples=12, deadline=None, database=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(sorted(COSTS)),
    st.floats(1e-3, 10),
    st.lists(st.integers(1, 12), min_size=1, max_size=3),
    st.floats(-3, 2),
)
def any_case(seed, cost, step, sizes, exponent):
    """Groups of any sizes and scales, float64."""
    groups = ragged(sizes, channels=2, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for parameter in {p for layer in groups.layers for p in layer.parameters}:
        draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = draw * 10**exponent
    steps, regularisers = steps_of(groups, step), bound(cost, groups)
    before = [groups.rows(layer) for layer in groups.layers]
    got, _ = swept(groups, steps, regularisers)
    assert_same(got, looped(groups, steps, regularisers), before, 1e-11)


def extreme_groups():
    groups = ragged((6, 40), channels=7, dtype=torch.float32)
    for layer in groups.layers[:2]:
        filters = layer.spans[0].parameter.data
        for span in layer.spans:
            span.parameter.data[0] = 0
        filters[1] = float("nan")
        filters[2, 0] = float("inf")
        filters[3, 1] = -float("inf")
        filters[4] = 1e-42
        filters[5] = 1e30
    for cost in COSTS:
        got, report = swept(groups, steps_of(groups, 0.1), bound(cost, groups))
        for rows in got[:2]:
            assert (rows[0] == 0).all()
            assert rows[1].isnan().all()
            assert not rows[2:].isnan().any(), cost
            if cost != "elastic" and cost != "power" and cost != "huber":
                assert rows[2:].isfinite().all(), cost
    prices = torch.tensor([0.0, 1.0, float("inf"), 0.0, 2.0, float("inf"), 1.0])
    steps = {layer.name: 0.05 * prices for layer in groups.layers}
    got, report = swept(groups, steps, bound("spr", groups))
    for layer, rows in zip(groups.layers, got, strict=True):
        before = groups.rows(layer)
        assert torch.equal(rows[[0, 3]], before[[0, 3]])
        assert (rows[[2, 5]] == 0).all()
    assert report[: groups.layers[0].channels, 0].isnan().tolist() == [True, True, False, True, False, False, False]
    loud = {layer.name: torch.tensor([float("nan")]) for layer in groups.layers}
    pace = Pace(strength=torch.tensor(-1.0))
    got, _ = swept(groups, steps_of(groups, 0.1), bound("spr", groups), pace=pace)
    assert all(rows[-1].isnan().all() for rows in got)
    for bad in (loud, steps_of(groups, -1.0)):
        with pytest.raises(InputError, match="negative or not a number"):
            swept(groups, bad, bound("spr", groups))


def many_small_groups_and_empty_ones():
    parameter = nn.Parameter(torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)))
    layers = (
        Layer("many", None, (Span(parameter),), 5000, ("many",)),
        Layer("none", None, (Span(nn.Parameter(torch.zeros(4, 0))),), 4, ("none",)),
    )
    groups, regulariser = ChannelGroups(layers), COSTS["spr"].bind(alpha=0.3, M=1.5)
    before, each = parameter.detach().clone(), {"many": regulariser, "none": regulariser}
    prox = run_on_device(build_segments(groups), groups, {"many": 0.4, "none": 0.4}, each)
    assert prox is None
    truth = torch.from_numpy(regulariser.prox(before.double().numpy(), 0.4))
    assert_same([parameter.detach()], [truth], [before], 1e-6)


def warm_starts_and_tensor_rates():
    for cost in ("spr", "huber"):
        groups = ragged((7, 31), channels=8, seed=4)
        regularisers, steps = bound(cost, groups), steps_of(groups, 0.2)
        before = [groups.rows(layer) for layer in groups.layers]
        cold, _ = swept(groups, steps, regularisers)
        for start in (1e-9, 0.3, 1.0, float("nan")):
            starts = {layer.name: np.full(layer.channels, start) for layer in groups.layers}
            warm, _ = swept(groups, steps, regularisers, starts=starts)
            assert_same(warm, cold, before, 1e-12)
        layer = {layer.name: i % 2 for i, layer in enumerate(groups.layers)}
        for rates in ([0.5, 0.25], [torch.tensor(0.5), torch.tensor(0.25)]):
            strength = torch.tensor(2.0) if isinstance(rates[0], torch.Tensor) else 2.0
            got, _ = swept(groups, steps, regularisers, pace=Pace(rates, strength, layer))
            scaled = {name: steps[name] * (1.0, 0.5)[layer[name]] for name in steps}
            assert_same(got, looped(groups, scaled, regularisers), before, 1e-12)


def two_regularisers_and_bfloat16():
    groups = ragged((9, 31), channels=6, dtype=torch.bfloat16)
    regularisers = {**bound("spr", groups), "layer1": bound("elastic", groups)["layer1"]}
    before = [groups.rows(layer) for layer in groups.layers]
    steps = steps_of(groups, 0.1)
    got, _ = swept(groups, steps, regularisers)
    exact = ChannelGroups(tuple(as_double(layer) for layer in groups.layers))
    loop = [rows.bfloat16() for rows in looped(exact, steps, regularisers)]
    assert_same(got, loop, before, 0.5**7)  # float32 may fall on the other side of a rounding


def as_double(layer):
    spans = tuple(Span(nn.Parameter(s.parameter.detach().double()), s.dim, s.index) for s in layer.spans)
    return Layer(layer.name, None, spans, layer.channels, layer.members)


def mutants_are_caught():
    import nets.fused.triton_kernel as kernel

    groups = ragged((9, 31, 1100), channels=4)
    regularisers, steps = bound("spr", groups), steps_of(groups, 0.05)
    before = [groups.rows(layer) for layer in groups.layers]
    loop = looped(groups, steps, regularisers)
    text = kernel.KERNEL
    assert_same(swept(groups, steps, regularisers)[0], loop, before, 1e-12)
    for right, wrong in (
        ("_done += _length", "_done += 0 * _length"),  # segments lie on each other
        ("_inside = _live & (_lane >= _done)", "_inside = _live & (_lane > _done)"),
        ("_step * _scale).to(REAL)", "0.5 * _step * _scale).to(REAL)"),
        ("$loads", "    _layer = 0 * _layer\n$loads"),  # boxes of the first layer
    ):
        kernel.compiled.cache_clear()
        assert right in text
        kernel.KERNEL = text.replace(right, wrong)
        try:
            assert_same(swept(groups, steps, regularisers)[0], loop, before, 1e-6)
        except AssertionError:
            continue
        raise SystemExit(f"the comparison took {wrong!r}")


if __name__ == "__main__":
    np.seterr(all="ignore")
    torch.set_num_threads(1)
    with torch.no_grad():
        for name in sys.argv[1:]:
            globals()[name]()
