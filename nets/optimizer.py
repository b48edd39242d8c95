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
from torch import Tensor, nn
from torch.optim import Optimizer

from nets.fused.master import LOW, Masters, swapped
from nets.fused.segments import Segments, build_segments
from nets.fused.sweep import is_on_gpu, run
from nets.fused.triton_sweep import Pace, run_on_device
from nets.fused.triton_update import prepare_device_update
from nets.fused.update import prepare_update, refuse_unfusable
from nets.groups import ChannelGroups, Layer
from nets.optimizer_arguments import by_layer, checked_strength, evaluate
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
    strength        the lambda of the objective, >= 0; a plain attribute that a schedule may change. It and the learning rates
                    may be tensors: fused on a GPU reads them there, so that a captured CUDA graph follows them
    prices          None, or by layer name (channels,) factors on lambda, a plain attribute too: 0 fixes a channel's indicator
                    at one (it is not shrunk), infinity at zero; whoever sets them sets them again after a resume
    implementation  "flat" (vectorised, the parameters' dtype), "loop" (float64, one group at a time: the truth), "fused" (any
                    optimizer's own step, then the prox of all groups in one compiled pass: numba's on the CPU, Triton's on a
                    GPU) or "fused_step" (torch.optim.SGD or AdamW and the prox together in that one pass)
    master          keep float32 masters of bfloat16 and float16 weights in the optimizer's state (nets/fused/master.py)

    Raises InputError where a layer has no regulariser, a group's tensor is not in the optimizer, or the tensors of one
    group have different learning rates or lie on different processes. With fully_shard, find the groups afterwards.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        groups: ChannelGroups,
        regulariser: Any,
        strength: float | Tensor,
        implementation: Implementation = "flat",
        master: bool = False,
    ) -> None:
        self._ready = False
        super().__init__(optimizer.param_groups, optimizer.defaults)
        if implementation not in ALL:
            raise InputError(f"unknown implementation {implementation!r}; choose one of {', '.join(ALL)}")
        if implementation == "fused_step":
            refuse_unfusable(optimizer)
        self._table: Segments | None = None
        self.inner = optimizer
        self.master, self._masters = master, Masters(optimizer)
        self.groups = groups
        self.implementation = implementation
        self.strength = checked_strength(strength)
        self.regularisers = by_layer(groups, regulariser)
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
        if not self.master:
            return self._move(closure, None)
        loss = evaluate(closure)  # with the weights as the network has them
        if self.implementation == "fused_step" and is_on_gpu(self._whole_table()):
            with self._masters.taken() as masters:
                self._move(None, masters)
        else:
            with self._masters.in_float32():
                self._move(None, None)
        return loss

    def _move(self, closure: Callable[[], Any] | None, masters: Mapping[nn.Parameter, Tensor] | None) -> Any:
        loss = self.inner.step(closure) if self.implementation != "fused_step" else evaluate(closure)
        rates = {layer.name: self._learning_rate(layer.name, layer.parameters) for layer in self.groups.layers}
        own_layers, prices = [], {}
        for layer in self.groups.layers:
            own, part = own_layer(layer)  # all of it, unless the network is split over processes
            if self.prices is not None and layer.name in self.prices:
                prices[layer.name] = self.prices[layer.name][part]
            if own.channels:
                own_layers.append(own)
        split = any(own is not layer for own, layer in zip(own_layers, self.groups.layers, strict=False))
        whole = not split and len(own_layers) == len(self.groups.layers)
        if self.implementation == "fused_step" and not whole:
            raise InputError(
                'implementation="fused_step" wants the whole network; take "flat" where fully_shard splits it'
            )
        if self.implementation in ("fused", "fused_step") and whole and is_on_gpu(self._whole_table()):
            total = self.groups.total
            shares = {layer.name: layer.n / total for layer in self.groups.layers}
            weights = {name: share * prices.get(name, 1.0) for name, share in shares.items()}
            self._move_on_gpu(weights, masters)
            return loss
        steps: dict[str, float | Tensor] = {}
        for layer in self.groups.layers:
            steps[layer.name] = float(rates[layer.name]) * float(self.strength) * self.share(layer)
            if layer.name in prices:
                steps[layer.name] = steps[layer.name] * prices[layer.name]
        groups = self.groups if whole else ChannelGroups(tuple(own_layers))
        if self.implementation != "fused_step":
            prox_step(groups, steps, self.regularisers, self.implementation)
        else:
            table = self._whole_table()
            run(table, groups, steps, self.regularisers, prepare_update(self.inner, table))
            self.inner._opt_called = True  # what a scheduler made for the wrapped optimizer asks for
        return loss

    def _move_on_gpu(
        self, weights: Mapping[str, float | Tensor], masters: Mapping[nn.Parameter, Tensor] | None
    ) -> None:
        """The kernel reads rates and strength where they are: nothing is asked of the device."""
        table, update = self._whole_table(), None
        if self.implementation == "fused_step":
            update = prepare_device_update(self.inner, table, masters)
            self.inner._opt_called = True
        number = {id(group): k for k, group in enumerate(self.param_groups)}
        of_tensor = {key: number[id(group)] for key, group in self._owner.items()}
        of_layer = {layer.name: of_tensor[id(layer.parameters[0])] for layer in self.groups.layers}
        pace = Pace([group["lr"] for group in self.param_groups], self.strength, of_layer, of_tensor)
        run_on_device(table, self.groups, weights, self.regularisers, pace, update)

    def _whole_table(self) -> Segments:
        """The table of the groups; for fused_step of every tensor that the optimizer trains."""
        if self._table is None or not self._table.fits():
            others = (p for group in self.param_groups for p in group["params"])
            self._table = build_segments(self.groups, others if self.implementation == "fused_step" else ())
        return self._table

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
        names = ("defaults", "inner", "groups", "regularisers", "strength", "prices", "implementation", "master")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._ready, self._table, self._masters = False, None, Masters(state["inner"])
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
        return {**self.inner.state_dict(), "strength": float(self.strength)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; InputError where the strength is missing (another optimizer's state)."""
        if "strength" not in state_dict:
            raise InputError("this optimizer state has no strength: it was saved by another optimizer, not by Proximal")
        low = [p for group in self.param_groups for p in group["params"] if self.master and p.dtype in LOW]
        with swapped({p: p.detach().float() for p in low}):  # torch casts the state to the parameters' dtype
            self.inner.load_state_dict({key: value for key, value in state_dict.items() if key != "strength"})
        checked_strength(state_dict["strength"])
        if isinstance(self.strength, Tensor):
            self.strength.fill_(state_dict["strength"])
        else:
            self.strength = state_dict["strength"]
        self._share()

    def _share(self) -> None:
        """One set of state and parameter groups, the wrapped optimizer's: what a scheduler changes here it changes
        there."""
        self.state = self.inner.state
        self.param_groups = self.inner.param_groups
        self._owner = {id(p): group for group in self.param_groups for p in group["params"]}

    def _learning_rate(self, name: str, parameters: tuple[nn.Parameter, ...]) -> float | Tensor:
        """The one rate of these tensors, a tensor where the optimizer has one; nobody looks into it unless they differ."""
        if any(id(p) not in self._owner for p in parameters):
            raise InputError(
                f"the optimizer does not train every tensor of {name}; give it all of the network's parameters"
            )
        given = {id(self._owner[id(p)]["lr"]): self._owner[id(p)]["lr"] for p in parameters}
        if len(given) == 1:
            return next(iter(given.values()))
        rates = {float(rate) for rate in given.values()}
        if len(rates) > 1:
            raise InputError(
                f"the tensors of {name} have different learning rates {sorted(rates)}; a group needs one, "
                "so put a convolution and its batch normalisation into one parameter group"
            )
        return rates.pop()
