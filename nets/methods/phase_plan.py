"""What a method may know of the regularised phase before its first step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from nets.gauge import Gauge
from nets.training.schedule import Schedule
from perspective.errors import InputError


@final
@dataclass(frozen=True)
class PhasePlan:
    """model: the network that will be trained, as the phase starts.

    strength  the lambda asked for or, for a method that follows a budget, predicted; None: the method chooses
    epochs    of the phase; steps: of one epoch
    schedule  of the learning rate
    gauge     the budget and the dense network it is a share of; None without a budget
    choose    (layer, channel) pairs that the budget would take from the network as it stands now, by these scores, compared
              between layers as the run says; the same on all ranks
    """

    model: nn.Module
    strength: float | None
    epochs: int
    steps: int
    schedule: Schedule
    gauge: Gauge | None
    choose: Callable[[Mapping[str, Tensor]], list[tuple[str, int]]]

    @property
    def total(self) -> int:
        """Steps of the phase."""
        return self.epochs * self.steps

    @property
    def reach(self) -> float:
        """Sum of the learning rates of all steps."""
        return self.schedule.total(0, self.total, self.total)

    def budgeted(self, method: str) -> Gauge:
        """The gauge; InputError where the run has no budget."""
        if self.gauge is None:
            raise InputError(
                f"method {method} is told by a budget how much to prune; add --budget, for example macs=0.5"
            )
        return self.gauge

    def counts(self, scores: Mapping[str, Tensor]) -> dict[str, int]:
        """How many channels of each layer the budget would take by these scores."""
        taken = [name for name, _ in self.choose(scores)]
        return {name: taken.count(name) for name in scores}
