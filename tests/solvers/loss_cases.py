"""The layers of `layer_cases` with another loss: targets turned into classes where the loss needs them."""

from typing import Any

import numpy as np
from layer_cases import make_layer

from solvers import LayerProblem

LOSSES = ("squared", "absolute", "logistic", "hinge")
KINKED = ("absolute", "hinge")
UNITS = {"squared": 1.0, "absolute": 0.5, "logistic": 0.2, "hinge": 0.3}  # of the strength: so that about half is kept


def make_loss_layer(
    loss: str, seed: int = 0, *, at_most: int | None = None, scale: float = 1.0, target_scale: float = 1.0, **made: Any
) -> LayerProblem:
    """scale multiplies the inputs, and the box and the cost follow, so that the problem is the same in other units."""
    made = {"sizes": (2, 1, 2), "samples": 18, **made}
    if scale != 1.0:
        made |= {"bound": 1.5 / scale, "alpha": 0.5}
    plain = make_layer(seed, **made)
    Y, unit = plain.Y, UNITS[loss]
    if loss in ("logistic", "hinge"):
        Y = np.where(Y >= np.median(Y), 1.0, -1.0)
    elif target_scale != 1.0:
        Y = Y * target_scale
        unit *= target_scale**2 if loss == "squared" else target_scale
    return LayerProblem(plain.X * scale, Y, plain.labels, plain.regulariser, plain.strength * unit, loss, at_most)
