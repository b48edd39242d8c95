"""The Pyomo models are the same program: objective at our optimum, and their continuous relaxations, solved elsewhere."""

from typing import Any

import cvxpy as cp
import numpy as np
import pyomo.environ as pyo
import pytest
from layer_cases import make_layer
from pyomo.contrib.solver.common.factory import SolverFactory
from pyomo.repn import generate_standard_repn

from solvers import LayerProblem, solve_exact, solve_relaxation, to_pyomo

CASES: dict[str, dict[str, Any]] = {
    "plain": {"bound": 0.6},
    "several outputs": {"outputs": 2, "sizes": (2, 1, 2)},
    "elastic cost": {"beta": 0.4, "bound": 0.6},
    "no box": {"bound": None},
}


def relaxation_by_cvxpy(model: Any) -> float:
    """Translate every active constraint term by term; t y >= ||w||^2 rows become rotated cones."""
    values: dict[int, cp.Variable] = {}
    constraints: list[Any] = []

    def variable(v: Any) -> cp.Variable:
        if id(v) not in values:
            values[id(v)] = cp.Variable()
            if v.lb is not None:
                constraints.append(values[id(v)] >= v.lb)
            if v.ub is not None:
                constraints.append(values[id(v)] <= v.ub)
        return values[id(v)]

    def affine(repn: Any) -> Any:
        return repn.constant + sum(c * variable(v) for c, v in zip(repn.linear_coefs, repn.linear_vars, strict=True))

    for constraint in model.component_data_objects(pyo.Constraint, active=True):
        repn = generate_standard_repn(constraint.body, quadratic=True)
        assert repn.nonlinear_expr is None
        body = affine(repn)
        if repn.quadratic_vars:
            squares = [(c, a) for c, (a, b) in zip(repn.quadratic_coefs, repn.quadratic_vars, strict=True) if a is b]
            cross = [
                (c, a, b) for c, (a, b) in zip(repn.quadratic_coefs, repn.quadratic_vars, strict=True) if a is not b
            ]
            assert len(cross) == 1
            assert cross[0][0] < 0
            assert constraint.lower is None
            over = cp.quad_over_lin(cp.hstack([np.sqrt(c) * variable(v) for c, v in squares]), variable(cross[0][2]))
            constraints += [over <= -cross[0][0] * variable(cross[0][1]) - body + pyo.value(constraint.upper)]
            continue
        if constraint.lower is not None:
            constraints.append(body >= pyo.value(constraint.lower))
        if constraint.upper is not None:
            constraints.append(body <= pyo.value(constraint.upper))
    repn = generate_standard_repn(model.value.expr, quadratic=True)
    names = {id(v): k for k, v in enumerate({id(v): v for pair in repn.quadratic_vars for v in pair}.values())}
    every = [next(v for pair in repn.quadratic_vars for v in pair if id(v) == i) for i in names]
    Q = np.zeros((len(names), len(names)))
    for c, (a, b) in zip(repn.quadratic_coefs, repn.quadratic_vars, strict=True):
        Q[names[id(a)], names[id(b)]] += c / 2
        Q[names[id(b)], names[id(a)]] += c / 2
    objective = cp.quad_form(cp.hstack([variable(v) for v in every]), cp.psd_wrap(Q)) + affine(repn)
    return float(cp.Problem(cp.Minimize(objective), constraints).solve(solver=cp.CLARABEL))


@pytest.mark.parametrize("case", CASES)
def test_the_hull_relaxation_is_the_perspective_relaxation(case: str) -> None:
    problem = make_layer(2, **{"sizes": (2, 2, 1)} | CASES[case])
    ours = solve_relaxation(problem, "projected").objective
    assert relaxation_by_cvxpy(to_pyomo(problem, "hull")) == pytest.approx(ours, rel=1e-5)


@pytest.mark.parametrize("case", ["plain", "several outputs", "elastic cost"])
def test_the_big_m_relaxation_is_ours_of_that_name(case: str) -> None:
    problem = make_layer(2, **{"sizes": (2, 2, 1)} | CASES[case])
    model = to_pyomo(problem, "bigm")
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(model)
    found = SolverFactory("highs").solve(model).incumbent_objective
    assert found == pytest.approx(solve_relaxation(problem, "big_m").objective, rel=1e-5)


@pytest.mark.parametrize("formulation", ["bigm", "hull"])
@pytest.mark.parametrize("case", CASES)
def test_the_objective_at_our_optimum_is_ours(case: str, formulation: str) -> None:
    problem = make_layer(2, **{"sizes": (2, 2, 1)} | CASES[case])
    result = solve_exact(problem, backend="enumerate")
    model = to_pyomo(problem, formulation)
    set_point(model, problem, result.weights, result.indicators)
    assert pyo.value(model.value) == pytest.approx(result.objective, rel=1e-9)


def set_point(model: Any, problem: LayerProblem, weights: np.ndarray, indicators: np.ndarray) -> None:
    a, _ = problem.regulariser.quadratic
    w = problem.matrix(weights)
    for i, k in model.weights:
        model.weights[i, k].set_value(w[i, k])
        if hasattr(model, "sizes"):
            model.sizes[i, k].set_value(abs(w[i, k]))
    for j in model.groups:
        model.keep[j].binary_indicator_var.set_value(int(indicators[j]))
        model.drop[j].binary_indicator_var.set_value(1 - int(indicators[j]))
        if hasattr(model, "cost"):
            model.cost[j].set_value(a * np.sum(w[problem.members[j]] ** 2))
