"""Pruning without training: exact channel choices, layer after layer, and least squares for what stays.

Not a score and not a penalty: it needs calibration images, and it changes the weights that stay. So `scores` refuses, and a run
calls `prune` between the dense phase and fine-tuning, in the place of regularising, zeroing to the budget and removing. How it
is done: `nets/post_training/prune.py`.

    min ||X W - Y||^2 + ridge ||W||^2,  at most so many channels      X: what a layer reads, Y: what the dense network answers

No paper's method: the program and its bounds are this project's own (`nets/layerwise.py`), nothing is taken as given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from torch import Tensor, nn

from nets.budget import Budget
from nets.gauge import Gauge
from nets.groups import ChannelGroups
from nets.limits import parse_patterns
from nets.methods.method import Method
from nets.post_training.plan import Plan
from perspective.errors import InputError

if TYPE_CHECKING:
    from nets.post_training.prune import PostTraining


@final
@dataclass(frozen=True)
class Layerwise(Method):
    """layer_seconds: of the exact solver for each layer; exclude: patterns of layers that keep all channels they write."""

    layer_seconds: float = 30.0
    exclude: str | None = None
    name: ClassVar[str] = "layerwise"
    regularises: ClassVar[bool] = False
    calibrates: ClassVar[bool] = True

    def refuse_unfit(self, model: nn.Module, groups: ChannelGroups, gauge: Gauge | None) -> None:
        from nets.post_training.budget import check_within_reach  # brings the solvers, which other methods do without

        if gauge is not None:
            check_within_reach(model, gauge.budget, gauge.example, parse_patterns(self.exclude))

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        raise InputError("method layerwise chooses channels from calibration images, not by scores; it gives none")

    def prune(
        self,
        model: nn.Module,
        images: Tensor,
        budget: Budget,
        example_inputs: Tensor,
        seed: int,
        progress: Callable[[str], None] | None = None,
        folder: Path | None = None,
    ) -> "PostTraining":
        """The smaller network and a report; model and the normalised calibration images on the CPU, see `prune_post_training`."""
        from nets.post_training.prune import prune_post_training  # brings the solvers, which other methods do without

        plan = Plan(budget, time_limit=self.layer_seconds, seed=seed, excluded=parse_patterns(self.exclude))
        return prune_post_training(model, images, plan, example_inputs=example_inputs, progress=progress, folder=folder)
