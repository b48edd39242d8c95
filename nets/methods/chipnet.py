"""ChipNet: a gate on every batch-normalised channel, driven to 0 or 1 by a crispness loss and to the budget by a budget loss.

Source: Tiwari, Bamba, Chavan, Gupta, "ChipNet: Budget-Aware Pruning with Heaviside Continuous Approximations", ICLR 2021, by
its public code (transmuteAI/ChipNet). A gate psi multiplies the output of its channel's batch normalisation by z:

    z~ = 1 / (1 + exp(-beta psi)),    z = 1 - exp(-gamma z~) + z~ exp(-gamma),    s = 1 / (1 + exp(-kappa (z - 1/2)))
    loss = cross-entropy + 10 mean (z - z~)^2 + 30 (V(s) - V0)^2       V: `nets.methods.chipnet_budget`, V0: the budget

psi starts at .01 U(0, 1); beta is 1, + .02 an epoch, at most 6; gamma 2, times sqrt 2, at most 256; kappa 10, + 5, at most 60;
gates are trained by AdamW, learning rate 1e-3, no weight decay. The paper's run has 20 epochs of 1,406 steps: here the epoch
count of the curves is 20 e / epochs, and a shorter run's gates get a rate that is larger in proportion, so that they can move
as far (at most 0.1 a step).

z (gamma x + beta) = (z gamma) x + z beta: so the network itself holds the gated values, the optimizer the gates and the values
before them, and gradients pass between by the chain rule. Weights are trained by the run's own optimizer (the paper: AdamW).
At the end every gate becomes 0 or 1: the budget takes the lowest z of the whole network, counted by physical removal (the
paper: a quantile of z, or a bisection with orphaned blocks removed), and the others become 1. The paper keeps the epoch whose
thresholded network is best on validation; here it is the last. Masks: RUN/masks.json, for method masks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nets.datasets.batches import epoch_generator
from nets.groups import ChannelGroups
from nets.methods.bn_scale import gammas
from nets.methods.chipnet_budget import Counted, count_layers, spent
from nets.methods.method import Method
from nets.methods.phase_plan import PhasePlan
from nets.methods.stepping import Stepping
from nets.structures.gradients import gradient_layer, scale_columns
from perspective.errors import InputError

EPOCHS, STEPS, RATE, FASTEST = 20, 28125, 1e-3, 0.1
CRISP, BUDGET = 10.0, 30.0


@final
@dataclass(frozen=True)
class Curves:
    """The three steepnesses after `epoch` (a number of the paper's epochs, perhaps between two)."""

    epoch: float

    @property
    def beta(self) -> float:
        return min(6.0, 1.0 + 0.02 * self.epoch)

    @property
    def gamma(self) -> float:
        return min(256.0, 2.0 * 2.0 ** (self.epoch / 2))

    @property
    def kappa(self) -> float:
        return min(60.0, 10.0 + 5.0 * self.epoch)

    def logistic(self, psi: Tensor) -> Tensor:
        """z~"""
        return torch.sigmoid(self.beta * psi)

    def heaviside(self, psi: Tensor) -> Tensor:
        """z"""
        soft = self.logistic(psi)
        return 1 - torch.exp(-self.gamma * soft) + soft * math.exp(-self.gamma)

    def survival(self, z: Tensor) -> Tensor:
        """s"""
        return torch.sigmoid(self.kappa * (z - 0.5))


@final
class Gated(Stepping):
    """psi: the gates by layer; free: (channels, gammas and betas) before the gates; both in float32 or wider."""

    def __init__(
        self, optimizer: Optimizer, groups: ChannelGroups, plan: PhasePlan, layers: tuple[Counted, ...], seed: int
    ) -> None:
        super().__init__(optimizer, groups)
        gauge = plan.budgeted("chipnet")
        self.kind, self.share, self.layers, self.plan = gauge.budget.kind, gauge.budget.share, layers, plan
        self.columns = {x.name: torch.logical_or(*scale_columns(x, plan.model)) for x in groups.layers}
        self.free = {x.name: groups.rows(x)[:, self.columns[x.name]] for x in groups.layers}
        self.psi = {}
        for layer in groups.layers:
            drawn = torch.rand(layer.channels, generator=epoch_generator(seed, f"gates {layer.name}", 0))
            self.psi[layer.name] = nn.Parameter(0.01 * drawn.to(layer.parameters[0]))
        rate = min(FASTEST, max(RATE, RATE * STEPS / plan.total))
        self.gates = AdamW(self.psi.values(), lr=rate, weight_decay=0.0)
        for psi in self.psi.values():  # its state exists from the start, so that a checkpoint fits a fresh one
            psi.grad = torch.zeros_like(psi)
        self.gates.step()  # a zero gradient moves nothing, but counts as a step
        for state in self.gates.state.values():
            state["step"].zero_()
        self._close(self._curves(0))

    def _curves(self, step: int) -> Curves:
        return Curves(EPOCHS * (step // self.plan.steps) / self.plan.epochs)

    def before(self) -> None:
        """Gradients of the gates and of the values before them; these stand in the network while the optimizer steps."""
        curves, slopes = self._curves(self.done), {}
        for layer in self.groups.layers:
            mask, outer = self.columns[layer.name], gradient_layer(layer)
            rows = self.groups.rows(outer)
            slopes[layer.name] = (rows[:, mask] * self.free[layer.name]).sum(1)
            rows[:, mask] *= curves.heaviside(self.psi[layer.name].detach())[:, None]
            self.groups.write(outer, rows)
            self._put(layer.name, self.free[layer.name])
        with torch.enable_grad():
            loss = self.gate_loss(curves)
            for name, psi in self.psi.items():
                loss = loss + (slopes[name] * curves.heaviside(psi)).sum()
            gradients = torch.autograd.grad(loss, list(self.psi.values()))
        for psi, gradient in zip(self.psi.values(), gradients, strict=True):
            psi.grad = gradient
        self.gates.step()

    def gate_loss(self, curves: Curves) -> Tensor:
        """10 crispness + 30 budget."""
        z = {name: curves.heaviside(psi) for name, psi in self.psi.items()}
        apart = [z[name] - curves.logistic(psi) for name, psi in self.psi.items()]
        share = spent(self.kind, self.layers, {name: curves.survival(value) for name, value in z.items()})
        return CRISP * torch.cat(apart).square().mean() + BUDGET * (share - self.share) ** 2

    def after(self) -> None:
        for layer in self.groups.layers:
            self.free[layer.name].copy_(self.groups.rows(layer)[:, self.columns[layer.name]])
        self._close(self._curves(self.done + 1))

    def open(self) -> None:
        """Every gate at 1."""
        for name, values in self.free.items():
            self._put(name, values)

    def _close(self, curves: Curves) -> None:
        with torch.no_grad():
            for name, psi in self.psi.items():
                self._put(name, curves.heaviside(psi)[:, None] * self.free[name])

    @torch.no_grad()
    def _put(self, name: str, values: Tensor) -> None:
        layer = self.groups[name]
        rows = self.groups.rows(layer)
        rows[:, self.columns[name]] = values
        self.groups.write(layer, rows)

    def tensors(self) -> dict[str, Tensor]:
        own: dict[str, Tensor] = {}
        for name, psi in self.psi.items():
            own |= {f"psi.{name}": psi, f"free.{name}": self.free[name]}
            own |= {f"{key}.{name}": value for key, value in self.gates.state[psi].items()}
        return own


@final
@dataclass(frozen=True)
class ChipNet(Method):
    """seed: of the gates' start, the run's."""

    seed: int = 0
    name: ClassVar[str] = "chipnet"
    regularises: ClassVar[bool] = True
    allocation: ClassVar[Literal["even", "price"]] = "price"

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        gauge = plan.budgeted(self.name)
        if any(len(layer.members) > 1 for layer in groups.layers):
            raise InputError("method chipnet has one gate for each channel of a normalisation; leave --coupled out")
        gammas(groups, plan.model, self.name)  # refuses a layer without normalisation
        return Gated(optimizer, groups, plan, count_layers(plan.model, groups, gauge.example), self.seed)

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        raise InputError("method chipnet scores channels by gates it has trained; it needs its training phase")

    def conclude(
        self, optimizer: Optimizer | None, groups: ChannelGroups, prepared: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """All gates opened; the order is that of z, for which z~ of float64 psi stands, as z may round to 1."""
        if not isinstance(optimizer, Gated):
            return self.scores(groups, prepared)
        optimizer.open()
        return {name: torch.sigmoid(psi.detach().double()).cpu() for name, psi in optimizer.psi.items()}
