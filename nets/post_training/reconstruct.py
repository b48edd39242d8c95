"""Least squares for one trained layer: the weights that make it answer as before although some of its inputs are gone.

    min over W, c  ||X W + c - Y||^2 + ridge ||W - W0||^2,  W = W0 = 0 outside the columns that are kept

W0 are the trained weights: with all columns kept and Y the trained answers, W0 itself is the solution. With the means taken out,
c = mean(Y) - mean(X) W and (G + ridge I)(W - W0) = X'Y - G W0 on the kept columns, G = X'X: the normal equations, in float64.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from perspective.errors import InputError

RIDGE = 1e-4  # of the Gram matrix's mean diagonal
ROUNDING = 1e-12  # of the raw squares: scatter below this may be rounding
CHUNK = 8192  # rows a product: sums of float32 rows are kept in float64

Array = NDArray[np.float64]
Norm = nn.BatchNorm2d | nn.BatchNorm1d


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """Samples of one layer: inputs (n, d) without their mean, mean (d,), gram (d, d) = inputs' inputs."""

    inputs: Tensor
    mean: Array
    gram: Array

    @property
    def ridge(self) -> float:
        """The ridge of every fit on these rows: relative to their scatter, above what rounding makes of constant inputs."""
        squares = float(np.trace(self.gram))
        rounding = ROUNDING * (squares + len(self.inputs) * float(np.sum(self.mean**2)))
        return (RIDGE * squares + rounding) / len(self.gram) or 1.0

    def cross(self, targets: Tensor) -> tuple[Array, Array]:
        """inputs' targets (d, outputs), and the mean (outputs,) of the targets."""
        product = torch.zeros(self.inputs.shape[1], targets.shape[1], dtype=torch.float64)
        level = targets.double().mean(0)
        centre = level.to(targets.dtype)  # the inputs' own mean is zero up to rounding only
        for start in range(0, len(targets), CHUNK):
            product += self.inputs[start : start + CHUNK].T @ (targets[start : start + CHUNK] - centre)
        return product.numpy(), level.numpy()


@final
@dataclass(frozen=True, eq=False)
class Fit:
    """Answers are X weights + shift for inputs X (n, d) as the layer sees them; weights (d, outputs), shift (outputs,)."""

    weights: Array
    shift: Array

    def predict(self, rows: Rows) -> Tensor:
        """Answers (n, outputs) at the rows, in their own precision."""
        kind = rows.inputs.dtype
        level = torch.from_numpy(self.shift + rows.mean @ self.weights).to(kind)
        return rows.inputs @ torch.from_numpy(self.weights).to(kind) + level


def gather_rows(inputs: Tensor) -> Rows:
    """Rows (n, d) centred, their mean and Gram matrix in float64."""
    mean = inputs.double().mean(0)
    centred = inputs - mean.to(inputs.dtype)
    rows = Rows(centred, mean.numpy(), np.empty((0, 0)))
    return Rows(centred, mean.numpy(), rows.cross(centred)[0])


def fit_columns(rows: Rows, targets: Tensor, trained: Fit, kept: NDArray[np.bool_]) -> Fit:
    """The least squares fit above; kept (d,): columns that may be used."""
    cross, level = rows.cross(targets)
    start = np.where(kept[:, None], trained.weights, 0.0)
    columns = np.flatnonzero(kept)
    weights = start.copy()
    if len(columns):
        matrix = rows.gram[np.ix_(columns, columns)] + rows.ridge * np.eye(len(columns))
        weights[columns] += np.linalg.solve(matrix, (cross - rows.gram @ start)[columns])
    return Fit(weights, level - rows.mean @ weights)


def fit_behind_relu(
    rows: Rows, targets: Tensor, added: Tensor | None, trained: Fit, kept: NDArray[np.bool_], rounds: int
) -> Fit:
    """Fit behind a ReLU: the squared error where Y + A > 0, and relu(X W + c + A)^2 where Y + A <= 0, any answer below -A being
    as good there. Convex, and never below ||relu(X W + c + A) - relu(Y + A)||^2. targets: Y (n, outputs); added: A, or None.

    Rounds of majorisation from the plain fit: with min(answer, -A) as the target where Y + A <= 0, least squares lies above the
    error and touches it at the present fit, so no round raises it.
    """
    fit = fit_columns(rows, targets, trained, kept)
    if rounds == 0:
        return fit
    ceiling = torch.zeros_like(targets) if added is None else -added
    positive = targets > ceiling
    for _ in range(rounds):
        moved = torch.where(positive, targets, torch.minimum(fit.predict(rows), ceiling))
        fit = fit_columns(rows, moved, trained, kept)
    return fit


def read_fit(layer: nn.Module, norm: nn.Module | None) -> Fit:
    """What a Conv2d or Linear, and the BatchNorm behind it (in evaluation mode) if any, computes from its rows."""
    weights = layer.weight.detach().double().flatten(1).T.numpy()
    shift = np.zeros(weights.shape[1]) if layer.bias is None else layer.bias.detach().double().numpy()
    if norm is None:
        return Fit(weights, shift)
    _check_norm(norm)
    scale = (norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)).numpy()
    moved = (shift - norm.running_mean.double().numpy()) * scale + norm.bias.detach().double().numpy()
    return Fit(weights * scale, moved)


@torch.no_grad()
def write_fit(layer: nn.Module, norm: nn.Module | None, fit: Fit, rows: Rows) -> None:
    """Put a fit into the layer; a BatchNorm behind it gets the mean and variance that the new weights have on the rows, and the
    scale and bias that undo them: in training mode too the layer answers about as it was fitted."""
    kind = layer.weight.dtype
    layer.weight.copy_(torch.from_numpy(fit.weights.T.copy()).to(kind).reshape(layer.weight.shape))
    if norm is None:
        if layer.bias is None:
            raise InputError("a layer without bias and batch normalisation takes no shift; give it a bias of zeros")
        layer.bias.copy_(torch.from_numpy(fit.shift).to(kind))
        return
    _check_norm(norm)
    middle = rows.mean @ fit.weights
    variance = np.einsum("ij,ij->j", fit.weights, rows.gram @ fit.weights) / len(rows.inputs)
    own = np.zeros(len(middle)) if layer.bias is None else layer.bias.detach().double().numpy()
    norm.running_mean.copy_(torch.from_numpy(middle + own).to(kind))
    norm.running_var.copy_(torch.from_numpy(np.maximum(variance, 0.0)).to(kind))
    norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
    norm.bias.copy_(torch.from_numpy(fit.shift + middle).to(kind))


def _check_norm(norm: nn.Module) -> None:
    if not isinstance(norm, Norm) or norm.weight is None or norm.running_mean is None:
        raise InputError(
            "batch normalisation without scale or running statistics cannot be refitted; use the usual one"
        )
