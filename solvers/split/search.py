"""The exact solution of the squared loss with a cost a s^2: split, strengthen, search, and one certificate of it all."""

import time
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError
from solvers.problem import LayerProblem
from solvers.result import Certificate, Result, Status, relative_gap
from solvers.split.aim import fit_on
from solvers.split.elimination import eliminate_groups
from solvers.split.indicators import step_logarithms
from solvers.split.kernel import compile_kernels
from solvers.split.leaf import Frame
from solvers.split.program import SINGULAR, Split, split_problem
from solvers.split.single import Dive, compile_single, dive_single
from solvers.split.strengthen import output_clusters, root_curvature
from solvers.split.tree import SplitTree, grow_split_tree

TOUCHES = 1e-9  # relative distance to the box that counts as on it


def solve_split(
    problem: LayerProblem, gap: float, time_limit: float, strengthen: str, start: tuple[NDArray[np.bool_], ...] = ()
) -> Result:
    """Solve to the relative gap or the time limit; InputError where the Gram matrix is singular to rounding.

    start: supports (p,) worth a look besides the search's own, from a similar problem; they are fitted here.
    The clock starts after the kernels are compiled, which happens once on a machine (numba keeps them).
    """
    plain = len(problem.targets2d[0]) == 1 and problem.at_most is None and strengthen == "blocks"
    if plain:
        compile_single()
    else:
        compile_tree()
    begin = time.perf_counter()
    split = split_problem(problem, output_clusters(strengthen, problem.targets2d.shape[1]))
    if split.smallest < SINGULAR:
        raise InputError("the inputs' Gram matrix with the ridge is singular to rounding; use a larger alpha")
    if plain:
        support, found = dive_single(split, gap, time_limit, start)
        tree = None if found is None else _plant(split, found, time.perf_counter() - begin)
        result = None if tree is None else _answer(problem, split, tree, gap, begin, 0.0)
        if result is not None and result.status == Status.OPTIMAL:
            return result
        start = (*start, support)
        waited = time.perf_counter()
        compile_tree()
        begin += time.perf_counter() - waited
    E = root_curvature(split, strengthen)
    spent = time.perf_counter() - begin
    tree = grow_split_tree(split, E, strengthen == "blocks", gap, max(time_limit - spent, 1e-3), start)
    return _answer(problem, split, tree, gap, begin, spent)


def _plant(split: Split, found: Dive, seconds: float) -> SplitTree | None:
    """The dive as a finished tree; None where its point leaves the box: the box is the general search's business."""
    groups, bound = np.flatnonzero(found.support), split.problem.regulariser.bound
    fit = fit_on(split.A, split.Bt[0], split.size, found.support)[split.features(groups)]
    weights = split.weights(groups, fit[None])
    if bound is not None and np.max(np.abs(weights), initial=0.0) > bound:
        return None
    value = split.problem.objective(weights)
    least = split.round_down(min(found.least, value))
    return SplitTree(weights, value, found.leaves, least, found.nodes, False, ((seconds, value, least),))


def _answer(problem: LayerProblem, split: Split, tree: SplitTree, gap: float, begin: float, spent: float) -> Result:
    if relative_gap(tree.value, tree.bound) <= gap:
        status = Status.OPTIMAL
    else:
        status = Status.TIME_LIMIT if tree.expired else Status.FEASIBLE
    return Result(
        status=status,
        objective=tree.value,
        lower_bound=tree.bound,
        weights=problem.shaped(tree.weights),
        indicators=problem.kept(tree.weights),
        seconds=time.perf_counter() - begin,
        nodes=tree.nodes,
        backend="branch",
        certificate=Certificate(tree.bound, tree.leaves, frame=Frame(split.starts, split.rotation)),
        history=tuple((t + spent, best, bound) for t, best, bound in tree.history),
        notes=_notes(problem, tree.weights),
    )


@lru_cache(maxsize=1)
def compile_tree() -> None:
    """Compile, or load from numba's cache, what the general search calls: once a process."""
    compile_kernels()
    step_logarithms(np.full(2, 0.5), np.ones(2), np.eye(2), 2)
    eliminate_groups(np.eye(2), np.ones((2, 1)), 1)


def _notes(problem: LayerProblem, weights: np.ndarray) -> tuple[str, ...]:
    bound = problem.regulariser.bound
    touching = 0 if bound is None else int(np.count_nonzero(np.abs(weights) >= bound * (1 - TOUCHES)))
    if touching == 0:
        return ()
    return (
        f"the box binds at the optimum: {touching} weights are at M = {bound:g}; a larger M may give a better point",
    )
