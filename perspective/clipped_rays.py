"""A search for the oracle: minimise, over a box, a function that falls with z.w and grows with |w|_2.

Of all w in the box |w_k| <= M with |w|_2 <= rho, a clipped ray sign(z_k) min(t |z_k|, M) has the largest z.w: as long as two
weights below the box are not the same multiple of z, moving a little from one to the other at one norm gains, and a weight
at the box can only give. So one number t is searched: along the ray up to the box's first face, and beyond it in log t.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from perspective.golden_section import search_golden

Array = NDArray[np.float64]


def search_clipped_rays(
    a: Array, bound: float, objective: Callable[[Array], Array], rows: int = 1
) -> tuple[Array, Array]:
    """The best group in (rows, n) and its objective (rows,); a = |z| (n,); objective maps (rows, n) to (rows,)."""
    if not a.any():
        nothing = np.zeros((rows, a.size))
        return nothing, objective(nothing)
    first, last = bound / a.max(), bound / a[a > 0].min()

    def group(x: Array) -> Array:
        """x in [0, 1]: up to the face; x in [1, 2]: beyond it."""
        t = first * np.minimum(x, 1.0) * (last / first) ** np.maximum(x - 1.0, 0.0)
        return np.minimum(t[:, None] * a, bound)

    best, lowest = search_golden(lambda x: objective(group(x)), np.zeros(rows), np.full(rows, 2.0))
    return group(best), lowest
