"""A toy layer from real data: which parts of an image does a small linear layer need?

scikit-learn's bundled 8 x 8 digits: the inputs are pixels (groups = bands of neighbouring pixels in reading order, with 8
groups the image's rows), the targets indicate three digit classes, both centred, 200 images drawn by the seed.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError
from solvers.problem import Array

IMAGES, CLASSES = 200, 3
STRENGTH = 3.0


class ToyLayer(NamedTuple):
    """inputs (200, d), targets (200, 3), groups (d,): d pixels that are not constant in the sample."""

    inputs: Array
    targets: Array
    groups: NDArray[np.intp]


def make_toy_layer(seed: int, groups: int = 8) -> ToyLayer:
    """Draw images and three classes by the seed; InputError where scikit-learn is missing or groups is out of 1..32."""
    if not 1 <= groups <= 32:
        raise InputError(f"--groups must be between 1 and 32, not {groups}")
    if seed < 0:
        raise InputError(f"--seed must be >= 0, not {seed}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError("scikit-learn is missing; run: pip install scikit-learn") from error
    digits, random = load_digits(), np.random.default_rng(seed)
    chosen = random.choice(len(digits.data), IMAGES, replace=False)
    classes = random.choice(10, CLASSES, replace=False)
    inputs = digits.data[chosen] / 16.0
    targets = (digits.target[chosen][:, None] == classes).astype(np.float64)
    labels = np.arange(64) * groups // 64
    varying = inputs.std(axis=0) > 0
    inputs = inputs[:, varying]
    return ToyLayer(inputs - inputs.mean(axis=0), targets - targets.mean(axis=0), labels[varying])
