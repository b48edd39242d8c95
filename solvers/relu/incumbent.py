"""The best point of a ReLU layer known so far: descents from several starts, then groups dropped and added one by one."""

import time
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.problem import Array, LayerProblem
from solvers.relu.fit import descend
from solvers.relu.node import NodeSolver
from solvers.relu.ranges import Ranges

STARTS = 6
SEED = 0
TOUCHES = 1e-9


@final
class Incumbent:
    """The best weights (mutable state of one run); ranges follow its value."""

    def __init__(self, problem: LayerProblem) -> None:
        self.problem, self.solver = problem, NodeSolver(problem)
        self.weights = np.zeros((problem.X.shape[1], problem.targets2d.shape[1]))
        self.value = problem.objective(self.weights)
        self.ranges = Ranges(problem, self.value)

    @property
    def support(self) -> NDArray[np.bool_]:
        return self.problem.kept(self.weights)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence where the declared box cuts weights off."""
        bound = self.problem.regulariser.bound
        touching = 0 if bound is None else int(np.count_nonzero(np.abs(self.weights) >= bound * (1 - TOUCHES)))
        cure = f"{touching} weights are at M = {bound}; a larger M may give a better point"
        return (f"the box binds at the optimum: {cure}",) if touching else ()

    def offer(self, weights: Array) -> bool:
        """Remember weights that are better; True where they are."""
        value = self.problem.objective(weights)
        if not value < self.value:
            return False
        self.weights, self.value = weights, value
        self.ranges = Ranges(self.problem, value)
        return True

    def improve(self, support: NDArray[np.bool_], start: Array) -> float:
        """Descend on a support from a start and remember the point; its value."""
        count = self.problem.at_most
        if count is not None and np.count_nonzero(support) > count:
            sizes = np.sum(self.problem.gather(self.problem.X.std(axis=0)[:, None] * start) ** 2, axis=1)
            support = support & (np.argsort(np.argsort(np.where(support, -sizes, np.inf))) < count)
        weights, value = descend(self.problem, support, start)
        self.offer(weights)
        return value

    def search(self, deadline: float) -> None:
        """Starts: least squares on the positive targets, the same with noise; then flips of single groups while they help."""
        problem, random = self.problem, np.random.default_rng(SEED)
        everything = np.ones(problem.n_groups, dtype=bool)
        X, Y = problem.X, problem.targets2d
        ridge = 1e-3 * float(np.mean(np.sum(X**2, axis=0))) or 1.0
        for number in range(STARTS):
            noise = 0.0 if number == 0 else 2.0 * float(np.std(Y))
            aims = Y + noise * random.standard_normal(Y.shape)
            start = np.linalg.solve(X.T @ X + ridge * np.eye(X.shape[1]), X.T @ aims)
            limit = np.inf if problem.regulariser.bound is None else problem.regulariser.bound
            self.improve(everything, np.asarray(np.clip(start, -limit, limit), dtype=np.float64))
            self.flip(deadline)
            if time.perf_counter() > deadline:
                return

    def flip(self, deadline: float) -> None:
        """Drop or add single groups from the best point while one of them helps."""
        improved = True
        while improved:
            improved = False
            for j in range(self.problem.n_groups):
                if time.perf_counter() > deadline:
                    return
                support, before = self.support, self.value
                support[j] = not support[j]
                self.improve(support, self.weights)
                improved |= self.value < before * (1 - 1e-12)
