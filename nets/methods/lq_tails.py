"""lq compressibility: how much of a vector its m largest entries hold, by its lq norm, 0 < q < 1.

The bound is Stechkin's, derived here: keeping the m largest of w,

    ||w - w_m||_2 <= ||w||_q m^(1/2 - 1/q),    so a tolerance eta, ||w - w_m||_2 <= eta ||w||_2, is met by
    m(eta) = ceil((||w||_q / (eta ||w||_2))^(2q / (2 - q))),    at most all of w

Entry j + 1 of the descending w stays as long as eta < (||w||_q / ||w||_2) j^(-(2 - q) / (2q)).
"""

import math

import torch
from torch import Tensor


def kept_count(w: Tensor, eta: float, q: float) -> int:
    """m(eta), 1 <= m <= the number of entries of w."""
    return max(1, int((tolerances(w, q) > eta * (1 + 1e-12)).sum()))


def tail_bound(w: Tensor, m: int, q: float) -> float:
    """Stechkin's bound on the Euclidean norm of what is left of w without its m largest entries; 0 where none is left."""
    return 0.0 if m >= w.numel() else _norm(w, q) * m ** (0.5 - 1 / q)


def tolerances(w: Tensor, q: float) -> Tensor:
    """For each entry of w (float64) the largest tolerance at which it still stays; infinity for the largest, 0 for zeros."""
    sizes = w.detach().double().abs().flatten()
    length = float(sizes.norm())
    if length == 0:
        return torch.zeros_like(sizes)
    ranks = torch.empty_like(sizes)
    ranks[torch.argsort(sizes, descending=True, stable=True)] = torch.arange(len(sizes)).to(sizes)
    return torch.where(sizes > 0, _norm(sizes, q) / length * ranks ** (-(2 - q) / (2 * q)), 0.0)


def _norm(w: Tensor, q: float) -> float:
    """||w||_q in float64, scaled so that no power overflows."""
    sizes = w.detach().double().abs().flatten()
    largest = float(sizes.max())
    return 0.0 if largest == 0 else largest * math.pow(float((sizes / largest).pow(q).sum()), 1 / q)
