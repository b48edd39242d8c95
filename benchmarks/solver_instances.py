"""The random layers on which exact solvers are compared: correlated columns, a few active groups, noise.

min ||X w - y||^2 + ridge ||w||^2 + price #groups,  |w| <= M.  Columns follow an AR(1) with correlation .5 in the order of the
groups; max(2, p // 4) random groups are active, their s weights N(0, 1/s); the noise has a fifth of the signal's variance;
price = 2 sigma^2 (s + 2 ln p), what a group of s pure noise columns earns and the search over p of them; M is three times
the largest weight of the ridge solution with every group kept.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from perspective import declare, derive
from solvers import LayerProblem

SAMPLES = 200
CORRELATION = 0.5
SIGNAL_TO_NOISE = 5.0
RIDGES = {"easy": 0.1, "hard": 0.02}  # times the samples
BOX_SCALE = 3.0
SPR = derive(declare("alpha*s**2", price="1-alpha", bound="M"))


@dataclass(frozen=True, order=True)
@final
class Cell:
    """One instance by its name: p groups of s weights, "easy" or "hard", a seed."""

    size: int
    n_groups: int
    level: str
    seed: int

    def __str__(self) -> str:
        return f"s={self.size} p={self.n_groups} {self.level} seed {self.seed}"


def make_instance(cell: Cell, samples: int = SAMPLES) -> LayerProblem:
    """The cell's problem; the same data for "easy" and "hard". strength * alpha = ridge, strength * (1 - alpha) = price."""
    random, p, s = np.random.default_rng([cell.seed, cell.n_groups, cell.size]), cell.n_groups, cell.size
    X = random.standard_normal((samples, p * s))
    for column in range(1, p * s):
        X[:, column] = CORRELATION * X[:, column - 1] + np.sqrt(1 - CORRELATION**2) * X[:, column]
    weights = np.zeros((p, s))
    active = random.choice(p, size=max(2, p // 4), replace=False)
    weights[active] = random.standard_normal((len(active), s)) / np.sqrt(s)
    signal = X @ weights.ravel()
    noise_variance = float(np.var(signal)) / SIGNAL_TO_NOISE
    y = signal + np.sqrt(noise_variance) * random.standard_normal(samples)
    ridge = RIDGES[cell.level] * samples
    price = 2 * noise_variance * (s + 2 * np.log(p))
    bound = BOX_SCALE * float(np.max(np.abs(np.linalg.solve(X.T @ X + ridge * np.eye(p * s), X.T @ y))))
    strength = ridge + price
    return LayerProblem(X, y, np.repeat(np.arange(p), s), SPR.bind(alpha=ridge / strength, M=bound), strength)
