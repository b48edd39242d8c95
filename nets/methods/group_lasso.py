"""Group lasso, by its exact prox: the classical convex penalty sum_g n_g ||w_g||_2 / sum_g n_g, as a baseline.

Source: Yuan, Lin, "Model selection and estimation in regression with grouped variables", J. Royal Stat. Soc. B 2006. It is the
perspective regulariser of a quadratic cost whose indicator never reaches one: cost a s^2 with price 1 / (4 a) gives
r(w) = ||w|| as long as 2 a ||w|| <= 1, and a is chosen far below that for the trained network.
Taken as given, for want of the paper's text: the weights n_g, with which groups are priced as SPR prices them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

from torch import Tensor

from nets.methods.proximal_method import ProximalMethod
from perspective import InputError, NumericRegularizer, Regularizer, declare, derive

HEADROOM = 100.0  # the largest trained norm may grow by this factor before the penalty would bend


@final
@dataclass(frozen=True)
class GroupLasso(ProximalMethod):
    """No parameters; scores are zero thresholds, here the norms over the weights of the groups."""

    name: ClassVar[str] = "group-lasso"

    def prepare(self, trained: Mapping[str, Tensor]) -> Mapping[str, NumericRegularizer]:
        """The same norm for every layer."""
        largest = max(float(rows.double().norm(dim=1).max()) for rows in trained.values())
        if not 0 < largest < float("inf"):
            raise InputError(f"the largest channel of the network has norm {largest}; start from a trained network")
        bound = _derived().bind(a=1.0 / (2.0 * HEADROOM * largest))
        return dict.fromkeys(trained, bound)


@lru_cache(maxsize=1)
def _derived() -> Regularizer:
    return derive(declare("a*s**2", price="1/(4*a)"))
