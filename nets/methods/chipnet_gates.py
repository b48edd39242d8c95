"""ChipNet's gates: their curves, and the optimizer that trains them together with what they gate.

z (gamma x + beta) = (z gamma) x + z beta: so the network itself holds the gated values, the optimizer the gates and the values
before them, and gradients pass between by the chain rule.
The formulas' source: `nets.methods.chipnet`.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nets.datasets.batches import epoch_generator
from nets.groups import ChannelGroups
from nets.methods.chipnet_budget import Counted, spent
from nets.methods.phase_plan import PhasePlan
from nets.methods.stepping import Stepping
from nets.structures.gradients import gradient_layer, scale_columns

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
        passed = EPOCHS * step / self.plan.total
        return Curves(math.floor(passed + 1e-9) if self.plan.epochs >= EPOCHS else passed)

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
