"""The learning rate of every step of a phase: half a cosine from lr to a hundredth of it.

Stateless on purpose: a resumed run computes the same numbers, and the shrinkage of a phase, sum of lr over its
steps, is known before it starts.
"""

import math

END = 0.01


def learning_rate(lr: float, step: int, steps: int) -> float:
    """The rate at step 0 .. steps - 1 of a phase that starts with `lr`."""
    return lr * (END + (1 - END) * (1 + math.cos(math.pi * step / steps)) / 2)


def total_rate(lr: float, steps: int) -> float:
    """Sum of the rates over a whole phase: with a strength of 1, how far the prox can shrink in it."""
    return math.fsum(learning_rate(lr, step, steps) for step in range(steps))
