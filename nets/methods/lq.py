"""Pruning by lq compressibility: every layer's own share follows from how fast its norms decay, at one tolerance for the
network.

Source: Yang, Wang, Ding, Yang, arXiv 2206.05604; only the abstract was at hand: the lq norm, 0 < q < 1, measures
compressibility, and each neuron's own pruning follows from it. The bound used is Stechkin's, not the paper's: with m(eta) of
`nets.methods.lq_tails`, the m largest entries of w leave at most eta ||w||_2 behind.

Structured form (what the budget prunes): w are the norms of a layer's channels, and m(eta) of them stay; eta is common to all
layers. The largest eta at which a channel stays is its score, and lowering the bar of scores until the budget is met is the
search for eta. The largest channel of a layer always stays.
Unstructured form: `prune_neurons`, w are the weights of one neuron (filter). In result.json under findings stands, for both
forms and equally many weights pruned, how far an output can move at most on a few validation images (`nets.flow.error_bound`)
beside how far it does, before any fine-tuning. The bound multiplies over the layers: it is rigorous, and large for deep
networks.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from nets.flow.error_bound import bound_outputs
from nets.groups import ChannelGroups
from nets.methods.lq_tails import kept_count, tail_bound, tolerances
from nets.methods.method import Method, Network
from perspective.errors import InputError

IMAGES = 8  # the bound is found on


def prune_neurons(model: nn.Module, eta: float, q: float) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy of which every neuron keeps its m(eta) largest weights, and by layer (channels,) the bound on what each neuron
    lost."""
    pruned, lost = copy.deepcopy(model), {}
    for name, module in pruned.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            rows = module.weight.detach().flatten(1).clone()
            bounds = torch.zeros(len(rows), dtype=torch.float64)
            for k, row in enumerate(rows):
                kept = kept_count(row, eta, q)
                bounds[k] = tail_bound(row, kept, q)
                row[row.abs().argsort(descending=True, stable=True)[kept:]] = 0
            module.weight.data.copy_(rows.view_as(module.weight))
            lost[name] = bounds
    return pruned, lost


@final
@dataclass(frozen=True)
class LQ(Method):
    """q in (0, 1)."""

    q: float = 0.5
    name: ClassVar[str] = "lq"
    regularises: ClassVar[bool] = False
    allocation: ClassVar[Literal["even", "price"]] = "price"

    def __post_init__(self) -> None:
        if not 0 < self.q < 1:
            raise InputError(f"q is {self.q}; it must lie strictly between 0 and 1")

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """The largest tolerance at which each channel still stays."""
        return {x.name: tolerances(groups.rows(x).double().norm(dim=1).cpu(), self.q) for x in groups.layers}

    def findings(self, dense: Network, masked: Network, example: Tensor) -> dict[str, Any]:
        """The tolerances found; bound and measured largest change of an output, structured and unstructured, as many weights
        pruned."""
        tolerance, alive = self.scores(dense[1], {}), {x.name: masked[1].alive(x) for x in masked[1].layers}
        fallen = [float(bars[~alive[name]].max()) for name, bars in tolerance.items() if not alive[name].all()]
        kept = {name: int(living.sum()) for name, living in alive.items()}
        return {
            "q": self.q,
            "eta": max(fallen, default=0.0),
            "kept": kept,
            **self._errors(dense[0], masked[0], example),
        }

    def _errors(self, dense: nn.Module, masked: nn.Module, example: Tensor) -> dict[str, Any]:
        dead, whole = _zeros(dense), _weights(dense)
        gone = _zeros(masked) - dead
        bars = torch.cat([tolerances(row, self.q) for rows in whole for row in rows]).sort().values
        eta = float(bars[dead + gone - 1]) if gone else 0.0  # the bars of zeros come first
        eta = min(eta, float(bars[torch.isfinite(bars)][-1]))
        neurons, lost = prune_neurons(dense, eta, self.q)
        return {
            "weights": sum(rows.numel() for rows in whole),
            "filters": {"pruned_weights": gone, **_error(dense, masked, example, None)},
            "neurons": {
                "eta": eta,
                "pruned_weights": _zeros(neurons) - _zeros(dense),
                **_error(dense, neurons, example, lost),
            },
        }


def _error(dense: nn.Module, pruned: nn.Module, example: Tensor, lost: dict[str, Tensor] | None) -> dict[str, Any]:
    """The error's facts, or the sentence that says why there is no bound."""
    try:
        found = bound_outputs(dense, pruned, example[:IMAGES], lost)
    except InputError as error:
        return {"bound": None, "measured": None, "why": str(error)}
    if not math.isfinite(found.bound):
        return {"bound": None, "measured": found.measured, "why": "the bound is larger than any number"}
    return {"bound": found.bound, "measured": found.measured, "largest_output": found.largest}


def _weights(model: nn.Module) -> list[Tensor]:
    return [m.weight.detach().flatten(1) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def _zeros(model: nn.Module) -> int:
    return sum(int((rows == 0).sum()) for rows in _weights(model))
