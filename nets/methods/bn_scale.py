"""Network slimming: an l1 penalty on the scales gamma of batch normalisation; channels of small |gamma| go.

Source: Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017:
train with loss + lambda sum |gamma| by subgradient, lambda sign(gamma); then one threshold on |gamma| for the whole network
(which the budget finds here; --allocation even compares within layers instead). The paper's text was not at hand: its lambda
(1e-4 or 1e-5, over 160 epochs from scratch) is from memory. Without --strength, lambda is what would shrink the budget's last
|gamma| to zero over the phase: |gamma| (1 - momentum) / (sum of the learning rates).
A group over several normalisations (--coupled) scores the sum of their |gamma|.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import Tensor, nn
from torch.optim import Optimizer

from nets.gauge import Gauge
from nets.groups import ChannelGroups
from nets.methods.method import Method
from nets.methods.phase_plan import PhasePlan
from nets.methods.stepping import Stepping, momentum_of
from nets.structures.gradients import gradient_layer, scale_columns
from perspective.errors import InputError


def gammas(groups: ChannelGroups, model: nn.Module, method: str) -> dict[str, Tensor]:
    """By layer, which numbers of a group are gammas; InputError where layers have none, with all that are to be left out."""
    columns = {layer.name: scale_columns(layer, model)[0] for layer in groups.layers}
    without = [name for name, mask in columns.items() if not mask.any()]
    if len(without) == len(columns):
        raise InputError(
            f"method {method} works on batch normalisation, and nothing of it scales a channel of this network; choose another "
            "method"
        )
    if without:
        raise InputError(
            f"method {method} works on batch normalisation, and {without[0]} has none that scales its channels; leave "
            f'such layers out with --exclude "{",".join(_patterns(without, columns))}", or choose another method'
        )
    return columns


def _patterns(names: Sequence[str], among: Iterable[str]) -> list[str]:
    """Patterns of --exclude that fit just these names: numbers become *, where no other name is hit by that."""
    found = []
    for name in names:
        pattern = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)
        hits_another = any(fnmatch.fnmatch(other, pattern) for other in among if other not in names)
        found.append(name if hits_another else pattern)
    return list(dict.fromkeys(found))


@final
class Slimming(Stepping):
    """grad(gamma) += strength sign(gamma)."""

    def __init__(
        self, optimizer: Optimizer, groups: ChannelGroups, columns: Mapping[str, Tensor], strength: float
    ) -> None:
        super().__init__(optimizer, groups)
        self.columns, self.strength = columns, strength

    def before(self) -> None:
        for layer in self.groups.layers:
            slopes = gradient_layer(layer)
            pull = self.strength * self.groups.rows(layer).sign() * self.columns[layer.name]
            self.groups.write(slopes, self.groups.rows(slopes) + pull)

    def sizes(self) -> dict[str, Tensor]:
        """Sum of |gamma| of each group."""
        rows = {layer.name: self.groups.rows(layer)[:, self.columns[layer.name]] for layer in self.groups.layers}
        return {name: scales.double().abs().sum(1).cpu() for name, scales in rows.items()}


@final
@dataclass(frozen=True)
class BNScale(Method):
    """No parameters of its own; lambda is --strength."""

    name: ClassVar[str] = "bn-scale"
    regularises: ClassVar[bool] = True
    weighs: ClassVar[bool] = True
    allocation: ClassVar[Literal["even", "price"]] = "price"

    def refuse_unfit(self, model: nn.Module, groups: ChannelGroups, gauge: Gauge | None) -> None:
        gammas(groups, model, self.name)

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        wrapped = Slimming(optimizer, groups, gammas(groups, plan.model, self.name), plan.strength or 0.0)
        if plan.strength is None:
            plan.budgeted(self.name)
            sizes = wrapped.sizes()
            last = max((float(sizes[name][k]) for name, k in plan.choose(sizes)), default=0.0)
            wrapped.strength = last * (1 - momentum_of(optimizer)) / plan.reach
        return wrapped

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        raise InputError("method bn-scale scores channels by the scales it has trained; it needs its training phase")

    def conclude(
        self, optimizer: Optimizer | None, groups: ChannelGroups, prepared: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """|gamma| as the phase has left it."""
        return optimizer.sizes() if isinstance(optimizer, Slimming) else self.scores(groups, prepared)
