"""big-M <= cone = projected <= exact for every loss, with a count too; certificates of every loss refuse what is corrupted."""

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import LOSSES, make_loss_layer
from pyomo.contrib.solver.common.factory import SolverFactory

from perspective import CheckFailed
from solvers import Certificate, LayerProblem, Leaf, bound_chain, cone, cuts, solve_exact, solve_relaxation, to_pyomo
from solvers.dual import FREE, OFF, ON, dual_value
from solvers.losses import BY_NAME
from solvers.projected import minimise
from solvers.reduced import reduce
from solvers.result import Status
from solvers.tree import lifts


@pytest.mark.parametrize("count", [None, 1])
@pytest.mark.parametrize("case", ["plain", "no box", "box binds", "several outputs"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_chain_holds(loss: str, case: str, count: int | None) -> None:
    more = {"plain": {}, "no box": {"bound": None}, "box binds": {"bound": 0.3}, "several outputs": {"outputs": 2}}[
        case
    ]
    problem = make_loss_layer(loss, 3, sizes=(2, 1), samples=10, at_most=count, **more)
    chain = bound_chain(problem, gap=1e-5)
    slack = 1e-6 * abs(chain.exact)
    assert chain.big_m <= chain.cone + slack
    assert chain.cone == pytest.approx(chain.projected, abs=slack)
    assert chain.projected <= chain.exact + slack
    assert chain.lower_bound <= chain.exact
    assert count is None or sum(chain.indicators) <= count
    chain.certificate.check(problem)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_count_lies_between_none_and_the_program(loss: str) -> None:
    free = make_loss_layer(loss, 4, sizes=(1, 1, 1, 1), samples=12, strength=1.0)
    counted = replace(free, at_most=1)
    plain, tight = solve_relaxation(free), solve_relaxation(counted, time_limit=5.0)
    assert np.sum(plain.indicators) > 1.01  # the count binds
    assert np.sum(tight.indicators) <= 1 + 1e-9
    assert plain.objective < tight.objective * (1 - 1e-6)
    assert tight.lower_bound <= solve_exact(counted, backend="enumerate").objective
    assert counted.objective(np.ones(free.X.shape[1]) * 0.1) == np.inf


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    fixed=st.lists(st.sampled_from([OFF, FREE, ON]), min_size=3, max_size=3),
    count=st.sampled_from([None, 1, 2]),
    relaxation=st.sampled_from(["perspective", "big_m"]),
)
def test_any_dual_point_is_below_any_point(
    loss: str, seed: int, fixed: list[int], count: int | None, relaxation: str
) -> None:
    problem = make_loss_layer(loss, 1, at_most=count)
    random, states = np.random.default_rng(seed), np.array(fixed, dtype=np.int8)
    Y = problem.targets2d
    U = BY_NAME[loss].project(random.normal(size=Y.shape) - 0.5 * Y, Y)
    found = dual_value(problem, U, states, relaxation)
    for _ in range(20):
        on = (random.random(3) < 0.5) & (states != OFF) | (states == ON)
        w = np.clip(random.normal(size=problem.X.shape[1]), -1.5, 1.5) * on[problem.labels]
        assert found.value - found.error <= problem.objective(w, on)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("count", [None, 1, 2])
def test_lifts_are_what_fixing_does_to_the_dual_value(loss: str, count: int | None) -> None:
    problem = make_loss_layer(loss, 6, sizes=(1, 2, 1, 1), at_most=count, strength=1.5)
    random, Y = np.random.default_rng(0), problem.targets2d
    for fixed in ([FREE] * 4, [ON, FREE, FREE, FREE], [OFF, FREE, FREE, FREE]):
        states = np.array(fixed, dtype=np.int8)
        for _ in range(5):
            U = BY_NAME[loss].project(-Y * random.random(Y.shape), Y)
            off, on = lifts(problem, states, U)
            before = dual_value(problem, U, states).value
            for j in np.flatnonzero(states == FREE):
                for state, lift in ((OFF, off[j]), (ON, on[j])):
                    moved = states.copy()
                    moved[j] = state
                    assert dual_value(problem, U, moved).value - before == pytest.approx(lift, rel=1e-6, abs=1e-9)


@pytest.fixture(scope="module", params=LOSSES)
def proven(request: pytest.FixtureRequest) -> tuple[LayerProblem, Certificate]:
    problem = make_loss_layer(request.param, 2, at_most=2, sizes=(1, 1, 2))
    reduced = reduce(problem)
    point = minimise(reduced, np.full(3, FREE, dtype=np.int8), reduced.zero(), tolerance=1e-8)
    result = solve_relaxation(problem)
    assert point.dual == pytest.approx(result.objective, rel=1e-6)
    return problem, result.certificate


def test_a_corrupted_certificate_is_refused(proven: tuple[LayerProblem, Certificate]) -> None:
    problem, certificate = proven
    certificate.check(problem)
    (leaf,) = certificate.leaves
    for change in (
        lambda u: 1.02 * u,
        lambda u: -u,
        lambda u: u + 0.3,
        lambda u: u[::-1],
        lambda u: np.where(u == u.flat[0], np.nan, u),
        np.zeros_like,
    ):
        with pytest.raises(CheckFailed, match="dual point"):
            replace(certificate, leaves=(replace(leaf, dual=change(leaf.dual)),)).check(problem)
    with pytest.raises(CheckFailed, match="proves"):
        replace(certificate, bound=certificate.bound + 1e-3 * abs(certificate.bound)).check(problem)
    with pytest.raises(CheckFailed, match="cover"):
        replace(certificate, leaves=(Leaf((0,), (), leaf.dual),)).check(problem)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_certificate_that_used_the_count_fails_without_it(loss: str) -> None:
    counted = make_loss_layer(loss, 4, sizes=(1, 1, 1, 1), samples=12, strength=1.0, at_most=1)
    certificate = solve_relaxation(counted, time_limit=5.0).certificate
    certificate.check(counted)
    with pytest.raises(CheckFailed, match="proves"):
        certificate.check(replace(counted, at_most=None))


@pytest.mark.parametrize("loss", LOSSES)
def test_failing_solvers_give_no_result(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_loss_layer(loss, 1, sizes=(1, 1), samples=8)
    monkeypatch.setattr(cone, "solve_conic", lambda program: Status.FAILED)
    monkeypatch.setattr(cuts.Master, "solve", lambda *arguments: Status.FAILED)
    monkeypatch.setattr(cuts, "sweep_supports", lambda *arguments: None)
    for result in (solve_relaxation(problem, "cone"), solve_exact(problem, gap=1e-8, backend="highs")):
        if result.status == "optimal":  # closed at the root, before HiGHS was asked
            continue
        assert result.status == "failed"
        assert result.weights is None
        assert result.certificate is None


@pytest.mark.parametrize("loss", LOSSES)
def test_a_tiny_time_limit_leaves_a_valid_bound(loss: str) -> None:
    problem = make_loss_layer(loss, 0, sizes=(1,) * 6, at_most=3)
    optimum = solve_exact(problem, gap=1e-6, backend="branch")
    short = solve_exact(problem, gap=1e-8, time_limit=1e-4, backend="highs")
    for result in (short, solve_exact(problem, gap=1e-8, time_limit=1e-4, backend="branch")):
        assert result.status in ("time_limit", "optimal")
        assert result.lower_bound <= optimum.objective
        assert optimum.lower_bound <= result.objective == problem.objective(result.weights)
        result.certificate.check(problem)


@pytest.mark.parametrize("formulation", ["bigm", "hull"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_pyomo_model_has_our_value_at_our_optimum(loss: str, formulation: str) -> None:
    problem = make_loss_layer(loss, 2, sizes=(1, 2), at_most=1, bound=0.6)
    result = solve_exact(problem, backend="enumerate")
    model, w = to_pyomo(problem, formulation), problem.matrix(result.weights)
    for i, k in model.weights:
        model.weights[i, k].set_value(w[i, k])
    P, Y = problem.X @ w, problem.targets2d
    if hasattr(model, "losses"):
        for i, k in model.losses:
            value = abs(P[i, k] - Y[i, k]) if loss == "absolute" else max(0.0, 1 - Y[i, k] * P[i, k])
            model.losses[i, k].set_value(value)
    for j in model.groups:
        model.keep[j].binary_indicator_var.set_value(int(result.indicators[j]))
        if hasattr(model, "cost"):
            model.cost[j].set_value(problem.regulariser.quadratic[0] * np.sum(w[problem.members[j]] ** 2))
    assert pyo.value(model.value) == pytest.approx(result.objective, rel=1e-9)
    assert pyo.value(model.count.body) <= pyo.value(model.count.upper) == 1


@pytest.mark.parametrize("loss", ["absolute", "hinge"])
def test_the_big_m_model_relaxes_to_ours(loss: str) -> None:
    problem = make_loss_layer(loss, 2, sizes=(1, 2), at_most=1, bound=0.6)
    model = to_pyomo(problem, "bigm")
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(model)
    found = SolverFactory("highs").solve(model).incumbent_objective
    assert found == pytest.approx(solve_relaxation(problem, "big_m").objective, rel=1e-5)
