"""The one door from networks to solvers: a trained layer becomes a `LayerProblem` whose groups are its input channels.

    min  ||X W - Y||^2 + ridge ||W||^2 + charge * #channels,  |w| <= M        X: sampled inputs, Y: the layer's own outputs

How ridge, charge and M are chosen is said in `solvers/layer_price.py`, how rows are drawn in `nets/certification/layer_rows.py`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nets.certification.layer_rows import LayerRows, layer_rows, reduce_rows, sample_rows
from perspective.errors import CheckFailed, InputError
from solvers.certify import LayerJob
from solvers.elimination import Nested, eliminate
from solvers.exact import BACKENDS, STRENGTHENINGS, solve_exact
from solvers.fit import fit_support
from solvers.layer_price import Ask, price_layer
from solvers.problem import LayerProblem
from solvers.processes import Outcome, run_jobs
from solvers.reduced import reduce
from solvers.result import relative_gap

__all__ = [
    "BACKENDS",
    "STRENGTHENINGS",
    "Ask",
    "LayerJob",
    "LayerRows",
    "Nested",
    "Outcome",
    "SolvedChoice",
    "choose_channels",
    "layer_problem",
    "nest_channels",
    "run_jobs",
    "write_problem",
]


@final
@dataclass(frozen=True, eq=False)
class SolvedChoice:
    """kept (p,) bool; objective of its best weights, ||X W - Y||^2 + ridge ||W||^2 and a charge too small to matter; lower_bound:
    certified, for every choice of as many channels; greedy: the objective of backward elimination's choice, order: its order of
    dropping, first to last."""

    kept: NDArray[np.bool_]
    objective: float
    lower_bound: float
    greedy: float
    order: tuple[int, ...]
    status: str
    seconds: float

    @property
    def gap(self) -> float:
        """(objective - lower_bound) / objective."""
        return relative_gap(self.objective, self.lower_bound)


def nest_channels(
    inputs: NDArray[np.float64],
    targets: NDArray[np.float64],
    groups: NDArray[np.int64],
    ridge: float,
    order: Sequence[int] | None = None,
) -> Nested:
    """The greedy choices of every size and their values ||X W - Y||^2 + ridge ||W||^2; or those that `order` drops one by one."""
    return eliminate(inputs, targets, groups.astype(np.intp), ridge, order)


def choose_channels(
    inputs: NDArray[np.float64],
    targets: NDArray[np.float64],
    groups: NDArray[np.int64],
    count: int,
    *,
    ridge: float,
    gap: float,
    time_limit: float,
) -> SolvedChoice:
    """The best `count` channels of a layer by the exact solver, within a relative gap or time_limit seconds, certificate checked.

    ridge is relative to the mean diagonal of the Gram matrix. Where time runs out before the solver beats backward elimination,
    that choice is taken; the bound holds for both.
    """
    layer = price_layer(inputs, targets, groups, Ask(at_most=float(count), ridge=ridge))
    simple = fit_support(reduce(layer.problem), layer.greedy.support(count), time.perf_counter() + time_limit)
    greedy = layer.problem.objective(simple.weights)
    result = solve_exact(layer.problem, gap=gap, time_limit=time_limit)
    if result.weights is None or result.certificate is None:
        raise CheckFailed(f"{result.backend} gave no channel choice: {result.status}; use a longer time limit")
    result.certificate.check(layer.problem)
    order = layer.greedy.order
    bound, status, seconds = result.certificate.bound, str(result.status), result.seconds
    if result.objective <= greedy:
        return SolvedChoice(layer.problem.kept(result.weights), result.objective, bound, greedy, order, status, seconds)
    return SolvedChoice(layer.greedy.support(count), greedy, bound, greedy, order, status, seconds)


def layer_problem(
    module: nn.Module,
    inputs: Tensor,
    *,
    keep: float | None = None,
    at_most: float | None = None,
    price: float | None = None,
    ridge: float | None = None,
    bound: float | None = None,
    positions: int = 20,
    seed: int = 0,
    channels: int | None = None,
) -> LayerProblem:
    """The program of a Conv2d or Linear layer at calibration inputs (batch, ...), its own outputs without bias as targets.

    Exactly one of: keep, a share (< 1) or number of channels, by the price at which the greedy path passes that number (0.5
    where nothing is given); at_most, the same as a constraint; price of a channel as a share of ||Y||^2. ridge: relative to
    the mean diagonal of the Gram matrix (1e-4); bound: M (three times the largest ridge weight). positions: of each image,
    drawn by the seed. channels: of a Linear layer behind a flattening. The rows are reduced by a QR factorisation, with one
    more row for the residual, so every loss is that of all samples. InputError where something does not fit.
    """
    asked = Ask(0.5 if (keep, at_most, price) == (None,) * 3 else keep, at_most, price, ridge, bound)
    rows = sample_rows(module, inputs, positions, np.random.default_rng(seed))
    data = reduce_rows(layer_rows(module, rows, channels))
    return price_layer(data.inputs, data.targets, data.groups, asked).problem


def write_problem(path: Path, data: LayerRows) -> None:
    """The layer as an .npz that `perspective solve` reads too: inputs, targets, groups, and the trained weights."""
    temporary = path.with_name(f".{path.stem}.part.npz")
    try:
        with temporary.open("wb") as file:
            np.savez(file, inputs=data.inputs, targets=data.targets, groups=data.groups, weights=data.weights)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --out") from error
