"""The same program as a Pyomo model, written as a generalised disjunction per group, to hand to any MIQP solver.

"bigm": the cost stays in the objective and gdp.bigm writes |w| <= M y; its relaxation is ours of that name.
"hull": the cost moves into the disjunct as a ||w||^2 <= e, and gdp.hull with the exact hull of quadratics
(a rotated cone, Gusev and Bernal Neira 2025) makes the relaxation the perspective one.
The loss stays in the objective: squares, or one variable an entry above the absolute value or the hinge, or the logistic
loss as log(1 + exp(.)), for a solver that takes such terms. A count of groups is a row of the model.
"""

from typing import Any

from perspective.errors import InputError
from solvers.box import weight_bound
from solvers.problem import LayerProblem
from solvers.reduced import Reduced, reduce

FORMULATIONS = ("bigm", "hull")


def to_pyomo(problem: LayerProblem, formulation: str = "hull") -> Any:
    """A transformed ConcreteModel: `weights[i, o]`, disjuncts `keep[j]` and `drop[j]`, `value` the problem's objective.

    Its continuous relaxation (relax the binaries) is the big-M or the perspective relaxation. InputError where the cost
    is not a s^2 + b s, where no box is declared and none follows from the cost, or where Pyomo is missing.
    """
    if formulation not in FORMULATIONS:
        raise InputError(f"unknown formulation {formulation!r}; valid ones: {', '.join(FORMULATIONS)}")
    if problem.regulariser.quadratic is None:
        raise InputError("the Pyomo model needs a cost a*s**2 + b*s; use backend='highs' for any other declared cost")
    try:
        import pyomo.environ as pyo
    except ImportError as error:
        raise InputError("pyomo is missing; run: pip install pyomo") from error
    reduced = reduce(problem)
    model = _declare(reduced, weight_bound(problem, problem.objective(reduced.zero())), formulation)
    options = {"exact_hull_quadratic": True} if formulation == "hull" else {}
    pyo.TransformationFactory(f"gdp.{formulation}").apply_to(model, **options)
    return model


def _declare(reduced: Reduced, bound: float, formulation: str) -> Any:
    import pyomo.environ as pyo
    from pyomo.gdp import Disjunct, Disjunction

    problem, (d, o) = reduced.problem, reduced.zero().shape
    assert problem.regulariser.quadratic is not None
    a, b = problem.regulariser.quadratic
    rows = [[(int(i), k) for i in members for k in range(o)] for members in problem.members]
    model = pyo.ConcreteModel()
    model.features, model.outputs = pyo.RangeSet(0, d - 1), pyo.RangeSet(0, o - 1)
    model.groups = pyo.RangeSet(0, problem.n_groups - 1)
    model.weights = pyo.Var(model.features, model.outputs, bounds=(-bound, bound), initialize=0.0)
    model.keep, model.drop = Disjunct(model.groups), Disjunct(model.groups)
    model.choose = Disjunction(model.groups, rule=lambda m, j: [m.keep[j], m.drop[j]])
    for j in model.groups:
        model.drop[j].zero = pyo.ConstraintList()
        for r in rows[j]:
            model.drop[j].zero.add(model.weights[r] == 0)
    if problem.at_most is not None:
        kept = sum(model.keep[j].binary_indicator_var for j in model.groups)
        model.count = pyo.Constraint(expr=kept <= problem.at_most)
    paid = problem.regulariser.price * sum(model.keep[j].binary_indicator_var for j in model.groups)
    if b > 0:  # an l1 term is its own perspective: it stays outside the disjuncts
        model.sizes = pyo.Var(model.features, model.outputs, bounds=(0.0, bound), initialize=0.0)
        model.above = pyo.Constraint(
            model.features, model.outputs, rule=lambda m, i, k: m.weights[i, k] <= m.sizes[i, k]
        )
        model.below = pyo.Constraint(
            model.features, model.outputs, rule=lambda m, i, k: -m.weights[i, k] <= m.sizes[i, k]
        )
        paid += b * sum(model.sizes.values())
    if a > 0 and formulation == "hull":
        most = [a * len(r) * bound**2 for r in rows]
        model.cost = pyo.Var(model.groups, bounds=lambda m, j: (0.0, most[j]), initialize=0.0)
        for j in model.groups:
            model.keep[j].paid = pyo.Constraint(expr=a * sum(model.weights[r] ** 2 for r in rows[j]) <= model.cost[j])
            model.drop[j].free = pyo.Constraint(expr=model.cost[j] == 0)
        paid += sum(model.cost.values())
    elif a > 0:
        paid += a * sum(w**2 for w in model.weights.values())
    model.value = pyo.Objective(expr=_loss(model, reduced) + problem.strength * paid)
    return model


def _loss(model: Any, reduced: Reduced) -> Any:
    """The loss as an expression; squared: ||R W - T||^2 + rest, min(samples, d) squares an output."""
    import pyomo.environ as pyo

    name, entries = reduced.loss.name, [(i, k) for i in range(len(reduced.T)) for k in range(reduced.T.shape[1])]
    if name == "squared":
        return sum(_affine(model, reduced, i, k, 1.0, -float(reduced.T[i, k])) ** 2 for i, k in entries) + reduced.rest
    if name == "logistic":
        return sum(
            pyo.log(1 + pyo.exp(_affine(model, reduced, i, k, -float(reduced.T[i, k]), 0.0))) for i, k in entries
        )
    model.entries = pyo.Set(initialize=entries)
    model.losses = pyo.Var(model.entries, bounds=(0.0, None), initialize=0.0)
    model.above_loss = pyo.ConstraintList()
    for i, k in entries:
        target = float(reduced.T[i, k])
        if name == "absolute":
            for sign in (1.0, -1.0):
                model.above_loss.add(_affine(model, reduced, i, k, sign, -sign * target) <= model.losses[i, k])
        else:
            model.above_loss.add(_affine(model, reduced, i, k, -target, 1.0) <= model.losses[i, k])
    return sum(model.losses.values())


def _affine(model: Any, reduced: Reduced, i: int, k: int, factor: float, constant: float) -> Any:
    """factor * (R W)_ik + constant."""
    from pyomo.core.expr.numeric_expr import LinearExpression

    return LinearExpression(
        constant=constant,
        linear_coefs=[factor * float(r) for r in reduced.R[i]],
        linear_vars=[model.weights[m, k] for m in range(reduced.R.shape[1])],
    )
