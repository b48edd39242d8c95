"""The squared loss behind a ReLU, exactly, by the own branch and bound over groups and activation signs."""

import time

from perspective.errors import InputError
from solvers.problem import LayerProblem
from solvers.relu.incumbent import Incumbent
from solvers.relu.tree import grow_relu_tree
from solvers.result import Result, Status

SEARCH_SHARE = 0.15


def solve_relu_branch(problem: LayerProblem, gap: float, time_limit: float) -> Result:
    """Exact solution to the relative gap; lower_bound is the certificate's, so nothing but numpy is believed.

    Status TIME_LIMIT with incumbent and bound where time runs out, FEASIBLE where the nodes' accuracy does first.
    InputError where the loss is another one, or where neither box nor cost bounds the predictions.
    """
    if problem.loss != "relu":
        raise InputError(
            f"this solver is for loss='relu', not {problem.loss!r}; use solve_exact, which picks by the loss"
        )
    begin = time.perf_counter()
    incumbent = Incumbent(problem)
    incumbent.search(begin + SEARCH_SHARE * time_limit)
    history: list[tuple[float, float, float]] = []

    def observe(bound: float) -> None:
        if not history or (incumbent.value, bound) != history[-1][1:]:
            history.append((time.perf_counter() - begin, incumbent.value, min(bound, incumbent.value)))

    tree = grow_relu_tree(problem, incumbent, gap, begin + time_limit, observe)
    seconds = time.perf_counter() - begin
    stopped = Status.TIME_LIMIT if seconds > time_limit else Status.FEASIBLE
    return Result(
        status=Status.OPTIMAL if tree.complete else stopped,
        objective=incumbent.value,
        lower_bound=tree.certificate.bound,
        weights=problem.shaped(incumbent.weights),
        indicators=problem.kept(incumbent.weights),
        seconds=seconds,
        nodes=tree.nodes,
        backend="branch",
        certificate=tree.certificate,
        history=tuple(history),
        notes=incumbent.notes,
    )
