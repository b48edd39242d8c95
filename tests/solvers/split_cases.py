"""Random layers for the split search, its relaxation evaluated densely, and optima by least squares over all supports."""

from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from layer_cases import make_layer
from scipy.optimize import lsq_linear

from perspective.errors import CheckFailed
from solvers import LayerProblem
from solvers.problem import Array
from solvers.result import Result
from solvers.split.kernel import assess
from solvers.split.program import Split, split_problem

DIFFICULTIES: dict[str, dict[str, Any]] = {
    "unequal groups": {"sizes": (1, 4, 2, 3)},
    "outputs": {"sizes": (2, 2, 3), "outputs": 3},
    "duplicate columns": {"sizes": (2, 2, 2, 2), "duplicate": True},
    "dead columns": {"sizes": (2, 2, 2), "zero": True},
    "one group": {"sizes": (3,)},
    "more inputs than samples": {"sizes": (3, 3, 3), "samples": 5, "outputs": 2},
    "inputs in millions": {"sizes": (2, 1, 2), "scale": 1e6, "bound": 1.5e-6},
    "inputs in millionths": {"sizes": (2, 1, 2), "scale": 1e-6, "bound": 1.5e6},
    "targets in millions": {"sizes": (2, 1, 2), "target_scale": 1e6, "bound": 1.5e6},
    "targets in millionths": {"sizes": (2, 1, 2), "target_scale": 1e-6, "bound": 1.5e-6},
}


def random_layer(seed: int) -> LayerProblem:
    """1 to 7 groups of 1 to 4, 1 to 3 outputs; no box, a loose one or one that cuts; at times a count; any price."""
    random = np.random.default_rng(1000 + seed)
    sizes = tuple(int(n) for n in random.integers(1, 5, size=random.integers(1, 8)))
    bound = (None, 4.0, 0.25)[seed % 3]
    problem = make_layer(
        seed,
        sizes=sizes,
        samples=int(random.integers(4, 40)),
        outputs=int(random.integers(1, 4)),
        strength=float(10 ** random.uniform(-1, 1.5)),
        alpha=float(random.choice([0.1, 0.5, 0.9])),
        duplicate=sum(sizes) > 2 and seed % 7 == 3,
        zero=seed % 11 == 5,
        bound=bound,
    )
    return replace(problem, at_most=int(random.integers(1, len(sizes) + 1))) if seed % 2 else problem


def best_fit(problem: LayerProblem, support: tuple[bool, ...]) -> float:
    """Value of one support: ridge regression by least squares, bounded where that leaves the box."""
    a, bound = problem.regulariser.quadratic[0], problem.regulariser.bound
    rows = np.array(support)[problem.labels]
    value, n = problem.strength * problem.regulariser.price * sum(support), int(rows.sum())
    A = np.vstack([problem.X[:, rows], np.sqrt(problem.strength * a) * np.eye(n)])
    for y in problem.targets2d.T:
        target = np.append(y, np.zeros(n))
        w = np.linalg.lstsq(A, target, rcond=None)[0]
        if bound is not None and np.any(np.abs(w) > bound):
            # columns of unit length, so that the solver's tolerances fit
            length = np.linalg.norm(A, axis=0)
            w = lsq_linear(A / length, target, (-bound * length, bound * length), method="bvls", tol=1e-14).x / length
        value += float(np.sum((A @ w - target) ** 2))
    return value


def true_optimum(problem: LayerProblem) -> float:
    """The exact optimum over all supports that the count allows; shares no code with the search."""
    most = problem.n_groups if problem.at_most is None else problem.at_most
    supports = product((False, True), repeat=problem.n_groups)
    return min(best_fit(problem, support) for support in supports if sum(support) <= most)


class Program(NamedTuple):
    """A whole program without anything fixed, and a point of its relaxation."""

    split: Split
    E: Array
    box: Array
    y: Array

    @property
    def theta(self) -> Array:
        """Blocks (K, p, s, s) of the box multipliers."""
        T = self.split.whitener
        return np.einsum("kja,jba,jca->kjbc", self.box, T, T)

    def look(self) -> tuple[bool, float, Array, Array, Array, Array]:
        """The kernel's answer."""
        return assess(
            self.split.A, self.split.Bt, self.split.starts, self.E, self.theta, self.y, self.split.prices(self.box)
        )


def random_program(problem: LayerProblem, seed: int, *, boxed: bool = False, clusters: int = 2) -> Program:
    """Full blocks strictly inside the cone, random indicators and multipliers."""
    random, split = np.random.default_rng(seed), split_problem(problem, clusters)
    p, s = split.whitener.shape[:2]
    shape = (len(split.starts) - 1, p, s)
    half = random.standard_normal((*shape, s))
    E = half @ half.swapaxes(2, 3) + 0.1 * np.eye(s)
    E *= 0.9 * split.smallest / np.max(np.linalg.eigvalsh(E))
    box = random.random(shape) * (random.random(shape) < 0.5) * float(boxed)
    # multipliers belong to real weights only
    box *= split.slots < problem.X.shape[1]
    return Program(split, np.ascontiguousarray(E), box, random.uniform(0.05, 0.95, size=p))


def dense_blocks(blocks: Array) -> Array:
    """blockdiag of (p, s, s)."""
    p, s = blocks.shape[:2]
    full = np.zeros((p * s, p * s), dtype=blocks.dtype)
    for j in range(p):
        full[j * s : (j + 1) * s, j * s : (j + 1) * s] = blocks[j]
    return full


def dense_h(program: Program, y: Array) -> complex:
    """h(y) by its definition, the prices and what the weights explain."""
    return complex(np.sum(program.split.prices(program.box) * y)) + dense_explained(program, y)


def dense_explained(program: Program, y: Array) -> complex:
    """h(y) less the prices: solves with A - E + (E + Theta) / y; y may be complex, so that derivatives are exact."""
    split, value = program.split, 0.0
    for k in range(len(split.starts) - 1):
        B = split.Bt[split.starts[k] : split.starts[k + 1]].T
        alone = (program.E[k] + program.theta[k]) / y[:, None, None]
        value = value - np.sum(B * np.linalg.solve(split.A - dense_blocks(program.E[k]) + dense_blocks(alone), B))
    return complex(value)


def dense_slope(program: Program, y: Array) -> Array:
    """Gradient of h less the prices, by complex steps: no difference of close numbers."""
    steps = 1e-30j * np.eye(len(y))
    return np.array([dense_explained(program, y + step).imag / 1e-30 for step in steps])


def found_out(result: Result, problem: LayerProblem, truth: float, gap: float) -> bool:
    """Whether the answer gives itself away; fails where a wrong one does not."""
    assert result.certificate is not None
    assert result.objective >= truth * (1 - 1e-9)
    try:
        result.certificate.check(problem)
    except CheckFailed:
        return True
    assert result.lower_bound <= truth * (1 + 1e-12)
    if result.status == "optimal":
        assert result.objective <= truth * (1 + gap)
    return result.status != "optimal"
