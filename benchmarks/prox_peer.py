"""torchao's `prototype.pat` group lasso on the same convolutions: its prox alone, and its whole proximal SGD step.

Its groups are the filters only (no gamma, beta), and group lasso's prox is one norm and one product for each filter.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

STRENGTH = 1e-4


def peer_prox(model: nn.Module, rate: float) -> Callable[[], Any]:
    """torchao's own `apply_prox_to_param`, as its optimizer calls it on each parameter."""
    from torchao.prototype.pat.group.dim import Dim0Grouper
    from torchao.prototype.pat.optim.group_lasso import ProxGroupLasso
    from torchao.prototype.pat.optim.prox_executor import apply_prox_to_param

    lasso = ProxGroupLasso(STRENGTH)
    options = {"gamma": rate, "gamma_index_slope": 0.0, "disable_vmap": False}
    options |= {"is_svd_grouper": False, "zero_elts_are_counts": False}

    @torch.no_grad()
    def prox() -> None:
        for weight in _filters(model):
            apply_prox_to_param(weight, lasso, Dim0Grouper, {}, options)

    return prox


def peer_step(model: nn.Module, rate: float, **options: Any) -> Callable[[], Any]:
    """torchao's PruneOptimizer around torch's fused SGD."""
    from torchao.prototype.pat.optim.pruneopt import PruneOptimizer

    filters = _filters(model)
    rest = [p for p in model.parameters() if all(p is not q for q in filters)]
    pruned = {"params": filters, "prox_type": "ProxGroupLasso", "group_type": "Dim0Grouper", "reg_lambda": STRENGTH}
    base = torch.optim.SGD([pruned, {"params": rest}], lr=rate, fused=True, **options)
    return PruneOptimizer(base).step


def _filters(model: nn.Module) -> list[nn.Parameter]:
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
