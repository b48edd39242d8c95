"""All supports of a small ReLU layer, each solved globally by the branch and bound over activation signs."""

import time

import numpy as np

from perspective.errors import InputError
from solvers.dual import OFF, ON
from solvers.enumerate import MOST_GROUPS
from solvers.problem import LayerProblem
from solvers.relu.certificate import ReluLeaf, certify_relu
from solvers.relu.incumbent import Incumbent
from solvers.relu.tree import grow_leaves
from solvers.result import Result, Status, relative_gap


def enumerate_relu(problem: LayerProblem, gap: float, time_limit: float) -> Result:
    """The best of all supports, each until it is solved to the relative gap or shown to be worse than the best so far.

    lower_bound is the certificate's, whose leaves fix every group; supports not reached in time are in it without a dual
    point, status TIME_LIMIT. InputError for more than 12 groups.
    """
    begin, p = time.perf_counter(), problem.n_groups
    if problem.loss != "relu":
        raise InputError(
            f"this solver is for loss='relu', not {problem.loss!r}; use solve_exact, which picks by the loss"
        )
    if p > MOST_GROUPS:
        raise InputError(f"enumeration visits 2^{p} supports, at most 2^{MOST_GROUPS} allowed; use backend='highs'")
    incumbent, leaves, visited = Incumbent(problem), list[ReluLeaf](), 0
    most = p if problem.at_most is None else problem.at_most
    for code in range(2**p):
        support = ((code >> np.arange(p)) & 1).astype(bool)
        if np.count_nonzero(support) > most or time.perf_counter() - begin > time_limit:
            off, on = tuple(np.flatnonzero(~support).tolist()), tuple(np.flatnonzero(support).tolist())
            leaves.append(ReluLeaf(off, on, (), (), np.zeros_like(problem.targets2d)))
            continue
        incumbent.improve(support, incumbent.weights)
        states = np.where(support, ON, OFF).astype(np.int8)
        leaves += grow_leaves(problem, incumbent, states, gap, begin + time_limit)[0]
        visited += 1
    certificate, seconds = certify_relu(problem, leaves, incumbent.value), time.perf_counter() - begin
    complete = relative_gap(incumbent.value, certificate.bound) <= gap
    stopped = Status.TIME_LIMIT if seconds > time_limit else Status.FEASIBLE
    return Result(
        status=Status.OPTIMAL if complete else stopped,
        objective=incumbent.value,
        lower_bound=certificate.bound,
        weights=problem.shaped(incumbent.weights),
        indicators=problem.kept(incumbent.weights),
        seconds=seconds,
        nodes=visited,
        backend="enumerate",
        certificate=certificate,
        notes=incumbent.notes,
    )
