"""A certificate for an answer that is known: the leaves of a branch and bound tree that starts from it."""

from solvers.branch import grow_tree
from solvers.problem import Array
from solvers.reduced import Reduced
from solvers.result import Certificate
from solvers.tree import grow


def prove_point(reduced: Reduced, weights: Array, gap: float, seconds: float) -> Certificate:
    """What the search proves in `seconds`, to the relative gap where there is time: it need not find the point again."""
    if reduced.squared and reduced.problem.at_most is None:
        return grow_tree(reduced, gap, seconds, incumbent=weights).certificate
    return grow(reduced, gap, seconds, incumbent=weights).certificate
