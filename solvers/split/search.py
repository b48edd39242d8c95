"""The exact solution of the squared loss with a cost a s^2: split, strengthen, search, and one certificate of it all."""

import time

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError
from solvers.problem import LayerProblem
from solvers.reduced import reduce
from solvers.result import Certificate, Result, Status, relative_gap
from solvers.split.elimination import eliminate_groups
from solvers.split.kernel import compile_kernels
from solvers.split.leaf import Frame
from solvers.split.program import SINGULAR, split_problem
from solvers.split.strengthen import output_clusters, root_curvature
from solvers.split.tree import grow_split_tree

TOUCHES = 1e-9  # relative distance to the box that counts as on it


def solve_split(
    problem: LayerProblem, gap: float, time_limit: float, strengthen: str, start: tuple[NDArray[np.bool_], ...] = ()
) -> Result:
    """Solve to the relative gap or the time limit; InputError where the Gram matrix is singular to rounding.

    start: supports (p,) worth a look besides the search's own, from a similar problem; they are fitted here.
    The clock starts after the kernels are compiled, which happens once on a machine (numba keeps them).
    """
    compile_kernels()
    eliminate_groups(np.eye(2), np.ones((2, 1)), 1)
    begin = time.perf_counter()
    split = split_problem(problem, output_clusters(strengthen, problem.targets2d.shape[1]))
    if split.smallest < SINGULAR:
        raise InputError("the inputs' Gram matrix with the ridge is singular to rounding; use a larger alpha")
    E = root_curvature(split, strengthen)
    spent = time.perf_counter() - begin
    tree = grow_split_tree(split, reduce(problem), E, strengthen == "blocks", gap, max(time_limit - spent, 1e-3), start)
    certificate = Certificate(tree.bound, tree.leaves, frame=Frame(split.starts, split.rotation))
    objective = problem.objective(tree.weights)
    if relative_gap(objective, certificate.bound) <= gap:
        status = Status.OPTIMAL
    else:
        status = Status.TIME_LIMIT if tree.expired else Status.FEASIBLE
    return Result(
        status=status,
        objective=objective,
        lower_bound=certificate.bound,
        weights=problem.shaped(tree.weights),
        indicators=problem.kept(tree.weights),
        seconds=time.perf_counter() - begin,
        nodes=tree.nodes,
        backend="branch",
        certificate=certificate,
        history=tuple((t + spent, best, bound) for t, best, bound in tree.history),
        notes=_notes(problem, tree.weights),
    )


def _notes(problem: LayerProblem, weights: np.ndarray) -> tuple[str, ...]:
    bound = problem.regulariser.bound
    touching = 0 if bound is None else int(np.count_nonzero(np.abs(weights) >= bound * (1 - TOUCHES)))
    if touching == 0:
        return ()
    return (
        f"the box binds at the optimum: {touching} weights are at M = {bound:g}; a larger M may give a better point",
    )
