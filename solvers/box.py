"""A valid box for weights that were declared without one: what a big-M program needs, derived, not guessed.

The loss and every term are >= 0, so a point at most as good as a known one has strength (phi(|w_k|) + price) <= objective.
"""

from perspective.errors import InputError
from solvers.problem import LayerProblem

LARGEST = 1e150


def weight_bound(problem: LayerProblem, objective: float) -> float:
    """The declared bound, or the largest |w_k| that any point with at most this objective can have.

    InputError where the cost does not grow, so that no bound follows.
    """
    declared = problem.regulariser.bound
    if declared is not None:
        return declared
    room = max(objective / problem.strength - problem.regulariser.price, 0.0) * (1 + 1e-9)
    low, high = 0.0, 1.0
    while float(problem.regulariser.cost(high)) <= room:
        low, high = high, 2 * high
        if high > LARGEST:
            raise InputError("the cost does not grow with the weight, so no box follows from it; declare bound=M")
    if low == 0.0:
        while float(problem.regulariser.cost(high / 2)) > room and high > 1 / LARGEST:
            high /= 2
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float(problem.regulariser.cost(middle)) <= room else (low, middle)
    return high
