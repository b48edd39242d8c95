"""The one door from networks to solvers: a trained layer becomes a `LayerProblem` whose groups are its input channels.

    min  ||X W - Y||^2 + ridge ||W||^2 + charge * #channels,  |w| <= M        X: sampled inputs, Y: the layer's own outputs

How ridge, charge and M are chosen is said in `solvers/layer_price.py`, how rows are drawn in `nets/layer_rows.py`.
"""

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from nets.layer_rows import LayerRows, layer_rows, reduce_rows, sample_rows
from perspective.errors import InputError
from solvers.certify import LayerJob
from solvers.exact import BACKENDS, STRENGTHENINGS
from solvers.layer_price import Ask, price_layer
from solvers.problem import LayerProblem
from solvers.processes import Outcome, run_jobs

__all__ = [
    "BACKENDS",
    "STRENGTHENINGS",
    "Ask",
    "LayerJob",
    "LayerRows",
    "Outcome",
    "layer_problem",
    "run_jobs",
    "write_problem",
]


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
