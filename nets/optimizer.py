"""`Proximal`: any torch optimizer, followed by the exact proximal step of the projected regulariser on every
channel group.

    minimise  loss + strength * sum_g n_g r_g(w_g) / N,     N = sum_g n_g     (objective of the SPR paper's authors)

so after the wrapped optimizer's step each group moves to prox_{tau r}(w_g), tau = lr * strength * n_g / N: forward-
backward splitting, with the learning rate of the parameter group the weights belong to. Zeros are exact, in the
network's own parameters.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from nets.fused.segments import Segments, build_segments
from nets.fused.sweep import run
from nets.fused.update import prepare_update, refuse_unfusable
from nets.groups import ChannelGroups, Layer
from nets.prox import Implementation as ProxImplementation
from nets.prox import prox_step, to_torch
from nets.structures.split import own_layer
from perspective.errors import InputError

Implementation = ProxImplementation | Literal["fused_step"]
ALL = ("loop", "flat", "fused", "fused_step")


@final
class Proximal(Optimizer):
    """Wraps `optimizer`; learning-rate schedulers, `zero_grad`, closures and `state_dict` work as on any torch
    optimizer.

    groups          ChannelGroups of the network whose parameters `optimizer` trains
    regulariser     one bound regulariser, or a mapping from layer name to bound regulariser (a box for each layer)
    strength        the lambda of the objective, >= 0; a plain attribute that a schedule may change
    prices          None, or by layer name (channels,) factors on lambda, a plain attribute too: 0 fixes a channel's indicator
                    at one (it is not shrunk), infinity at zero; whoever sets them sets them again after a resume
    implementation  "flat" (vectorised, the parameters' dtype), "loop" (float64, one group at a time: the truth), "fused" (any
                    optimizer's own step, then the prox of all groups in one compiled pass, on the CPU) or "fused_step"
                    (torch.optim.SGD or AdamW and the prox together in that one pass; nets/fused/update.py)

    Raises InputError where a layer has no regulariser, a group's tensor is not in the optimizer, or the tensors of one
    group have different learning rates or lie on different processes. With fully_shard, find the groups afterwards.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        groups: ChannelGroups,
        regulariser: Any,
        strength: float,
        implementation: Implementation = "flat",
    ) -> None:
        self._ready = False
        super().__init__(optimizer.param_groups, optimizer.defaults)
        if implementation not in ALL:
            raise InputError(f"unknown implementation {implementation!r}; choose one of {', '.join(ALL)}")
        if implementation == "fused_step":
            refuse_unfusable(optimizer)
        self._table: Segments | None = None
        self.inner = optimizer
        self.groups = groups
        self.implementation = implementation
        self.strength = _checked(strength)
        self.regularisers = _by_layer(groups, regulariser)
        self.prices: Mapping[str, Tensor] | None = None
        self._share()
        self._ready = True
        for layer in groups.layers:
            self._learning_rate(layer.name, layer.parameters)
            own_layer(layer)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """The wrapped optimizer's step, then the prox of every group; returns the closure's loss, if there is one."""
        if self.param_groups is not self.inner.param_groups:  # its state was loaded behind our back
            self._share()
        loss = self.inner.step(closure) if self.implementation != "fused_step" else _evaluate(closure)
        rates = {layer.name: self._learning_rate(layer.name, layer.parameters) for layer in self.groups.layers}
        steps: dict[str, float | Tensor] = {}
        own_layers = []
        for layer in self.groups.layers:
            own, part = own_layer(layer)  # all of it, unless the network is split over processes
            steps[layer.name] = rates[layer.name] * self.strength * self.share(layer)
            if self.prices is not None and layer.name in self.prices:
                steps[layer.name] = steps[layer.name] * self.prices[layer.name][part]
            if own.channels:
                own_layers.append(own)
        split = any(own is not layer for own, layer in zip(own_layers, self.groups.layers, strict=False))
        groups = ChannelGroups(tuple(own_layers)) if split or len(own_layers) < len(self.groups.layers) else self.groups
        if self.implementation != "fused_step":
            prox_step(groups, steps, self.regularisers, self.implementation)
        elif groups is self.groups:
            self._step_in_one_pass(steps)
        else:
            raise InputError(
                'implementation="fused_step" wants the whole network; take "flat" where fully_shard splits it'
            )
        return loss

    def _step_in_one_pass(self, steps: Mapping[str, float | Tensor]) -> None:
        """Update and prox, of every tensor that the optimizer trains."""
        if self._table is None or not self._table.fits():
            self._table = build_segments(self.groups, (p for group in self.param_groups for p in group["params"]))
        run(self._table, self.groups, steps, self.regularisers, prepare_update(self.inner, self._table))
        self.inner._opt_called = True  # what a scheduler made for the wrapped optimizer asks for

    def share(self, layer: Layer) -> float:
        """n_g / N of the layer's groups: the weight of one group's r in the objective."""
        return layer.n / self.groups.total

    @torch.no_grad()
    def penalty(self) -> float:
        """sum_g n_g r_g(w_g) / N in the present weights; +inf while a weight lies outside its box."""
        total = 0.0
        for layer in self.groups.layers:
            values = to_torch(self.regularisers[layer.name]).value(self.groups.rows(layer))
            total += self.share(layer) * float(values.double().sum())
        return total

    def __getstate__(self) -> dict[str, Any]:
        """Everything a copy needs; a copy made together with its model trains the copied model."""
        names = ("defaults", "inner", "groups", "regularisers", "strength", "prices", "implementation")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._ready, self._table = False, None
        super().__setstate__({**state, "state": state["inner"].state, "param_groups": state["inner"].param_groups})
        self._share()
        self._ready = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Hand the parameter group to the wrapped optimizer."""
        if not self._ready:  # torch's constructor comes through here
            super().add_param_group(param_group)
            return
        self.inner.add_param_group(param_group)
        self._table = None
        self._share()

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's state, and the strength."""
        return {**self.inner.state_dict(), "strength": self.strength}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; InputError where the strength is missing (another optimizer's state)."""
        if "strength" not in state_dict:
            raise InputError("this optimizer state has no strength: it was saved by another optimizer, not by Proximal")
        self.inner.load_state_dict({key: value for key, value in state_dict.items() if key != "strength"})
        self.strength = _checked(state_dict["strength"])
        self._share()

    def _share(self) -> None:
        """One set of state and parameter groups, the wrapped optimizer's: what a scheduler changes here it changes
        there."""
        self.state = self.inner.state
        self.param_groups = self.inner.param_groups
        self._owner = {id(p): group for group in self.param_groups for p in group["params"]}

    def _learning_rate(self, name: str, parameters: tuple[torch.nn.Parameter, ...]) -> float:
        if any(id(p) not in self._owner for p in parameters):
            raise InputError(
                f"the optimizer does not train every tensor of {name}; give it all of the network's parameters"
            )
        rates = {float(self._owner[id(p)]["lr"]) for p in parameters}
        if len(rates) > 1:
            raise InputError(
                f"the tensors of {name} have different learning rates {sorted(rates)}; a group needs one, "
                "so put a convolution and its batch normalisation into one parameter group"
            )
        return rates.pop()


def _evaluate(closure: Callable[[], Any] | None) -> Any:
    """The closure's loss, with gradients on, as torch's optimizers evaluate it."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _by_layer(groups: ChannelGroups, regulariser: Any) -> dict[str, Any]:
    each = regulariser.values() if isinstance(regulariser, Mapping) else [regulariser]
    if not all(hasattr(r, "zero_threshold") for r in each):
        raise InputError(
            "the regulariser has no numbers yet; pass derive(block).bind(...), or a mapping of such by layer"
        )
    if not isinstance(regulariser, Mapping):
        return {layer.name: regulariser for layer in groups.layers}
    missing = [layer.name for layer in groups.layers if layer.name not in regulariser]
    unknown = sorted(set(regulariser) - {layer.name for layer in groups.layers})
    if missing or unknown:
        raise InputError(f"the regularisers do not fit the layers: missing {missing}, unknown {unknown}")
    return dict(regulariser)


def _checked(strength: float) -> float:
    try:
        number = float(strength)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise InputError(f"the strength is {strength!r}; it must be a finite number >= 0")
    return number
