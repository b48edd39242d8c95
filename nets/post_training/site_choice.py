"""A site as a small least squares program, and the simple orders in which its channels could go."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nets.layerwise import nest_channels
from nets.post_training.reconstruct import Fit
from nets.post_training.site_rows import Samples
from nets.post_training.sites import Site
from perspective.errors import InputError

Array = NDArray[np.float64]
FLAT = 1e-12  # of the largest eigenvalue: directions the samples do not show


def as_problem(samples: Samples) -> tuple[Array, Array]:
    """R (d, d), T (d, outputs) with ||R W - T||^2 = ||X W - Y||^2 + constant for the centred rows X and targets Y."""
    gram, (cross, _) = samples.rows.gram, samples.rows.cross(samples.targets)
    values, vectors = np.linalg.eigh(gram)
    roots = np.sqrt(np.maximum(values, FLAT * max(float(values[-1]), 1e-300)))
    return (vectors * roots).T, (vectors.T @ cross) / roots[:, None]


def rank_channels(
    choice: str,
    site: Site,
    modules: Mapping[str, nn.Module],
    problem: Callable[[], tuple[Array, Array]],
    groups: NDArray[np.int64],
    ridge: float,
) -> tuple[int, ...]:
    """The channels in the order in which they go: by backward elimination on `problem()`, or, for "magnitude" and "bn-scale", by
    the norm or the normalisation scale of the writer's channels."""
    if choice == "magnitude":
        size = modules[site.writer.name].weight.detach().flatten(1).norm(dim=1)
    elif choice == "bn-scale":
        if site.writer.norm is None:
            raise InputError(
                f"{site.writer.name} has no batch normalisation to rank its channels by; choose another way"
            )
        size = modules[site.writer.norm].weight.detach().abs()
    else:
        return nest_channels(*problem(), groups, ridge).order
    return tuple(torch.argsort(size, stable=True).tolist())


def keep_last(order: Sequence[int], count: int) -> NDArray[np.bool_]:
    """(channels,) true for the `count` channels that go last."""
    kept = np.zeros(len(order), dtype=bool)
    kept[list(order[len(order) - count :])] = True
    return kept


def measure_error(samples: Samples, fit: Fit) -> float:
    """||answers - targets||^2 / ||targets - mean||^2, over the ReLU of both (with what is added before it) where there is one."""
    answers, targets = fit.predict(samples.rows), samples.targets
    if samples.rectified:
        added = torch.zeros_like(targets) if samples.added is None else samples.added
        answers, targets = torch.relu(answers + added), torch.relu(targets + added)
    spread = float((targets - targets.mean(0)).double().square().sum())
    return float((answers - targets).double().square().sum()) / (spread or 1.0)
