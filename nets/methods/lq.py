"""Pruning by lq compressibility: every layer's own share follows from how fast its norms decay, at one tolerance for the
network.

Source: Yang, Wang, Ding, Yang, arXiv 2206.05604; only the abstract was at hand: the lq norm, 0 < q < 1, measures
compressibility, and each neuron's own pruning follows from it. The bound used is Stechkin's, derived here, not the paper's:
keeping the m largest of w,

    ||w - w_m||_2 <= ||w||_q m^(1/2 - 1/q),    so a tolerance eta, ||w - w_m||_2 <= eta ||w||_2, is met by
    m(eta) = ceil((||w||_q / (eta ||w||_2))^(2q / (2 - q))),    at most all of w

Structured form (what the budget prunes): w are the norms of a layer's channels, and m(eta) of them stay; eta is common to all
layers. Entry j + 1 of the descending w stays as long as eta < (||w||_q / ||w||_2) j^(-(2 - q) / (2q)): that is its score, and
lowering the bar of scores until the budget is met is the search for eta. The largest channel of a layer always stays.
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
from nets.methods.method import Method, Network
from perspective.errors import InputError

IMAGES = 8  # the bound is found on


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


def _norm(w: Tensor, q: float) -> float:
    """||w||_q in float64, scaled so that no power overflows."""
    sizes = w.detach().double().abs().flatten()
    largest = float(sizes.max())
    return 0.0 if largest == 0 else largest * math.pow(float((sizes / largest).pow(q).sum()), 1 / q)
