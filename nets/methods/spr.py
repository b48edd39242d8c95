"""Structured Perspective Regularization: train under the projected perspective of the pruning program, by its exact
prox.

Source: Cacciola, Frangioni, Li, Lodi, "Deep Neural Networks pruning via the Structured Perspective Regularization",
SIAM J. Math. Data Sci. 2023, arXiv 2206.14056. Per channel: cost alpha s^2 on each number, price 1 - alpha for
keeping the channel, box M; M of a layer = m_scale * max |w| over the convolution and its batch normalisation in an
ordinarily trained network. The objective is loss + strength * sum_g n_g r(w_g) / sum_g n_g. The authors train by
subgradients and threshold afterwards; here the prox makes exact zeros, so that nothing is thresholded.
Taken as given, for want of the paper's text: groups, objective and the rule for M are those of the authors' public code
(MCacciola94/Pruning_prj, runs V1.1.CP); the formula of r, with alpha in all of its pieces, is derived here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

from torch import Tensor

from nets.methods.proximal_method import ProximalMethod
from perspective import InputError, NumericRegularizer, Regularizer, declare, derive


@final
@dataclass(frozen=True)
class SPR(ProximalMethod):
    """alpha in (0, 1): ridge against price; m_scale > 0: box of a layer over its largest trained weight."""

    alpha: float
    m_scale: float
    name: ClassVar[str] = "spr"

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is {self.alpha}; it must lie strictly between 0 and 1")
        if not 0 < self.m_scale < float("inf"):
            raise InputError(f"the scale of M is {self.m_scale}; it must be positive and finite")

    def prepare(self, trained: Mapping[str, Tensor]) -> Mapping[str, NumericRegularizer]:
        """The regulariser of each layer, M by the rule above."""
        bound = {}
        for name, rows in trained.items():
            largest = float(rows.double().abs().max())
            if not 0 < largest < float("inf"):
                raise InputError(
                    f"the largest weight of {name} is {largest} in the trained network, so it gives no box M; "
                    "start from an ordinarily trained network without empty layers"
                )
            bound[name] = _derived().bind(alpha=self.alpha, M=self.m_scale * largest)
        return bound


@lru_cache(maxsize=1)
def _derived() -> Regularizer:
    return derive(declare("alpha*s**2", price="1-alpha", bound="M"))
