"""An optimizer with something done before and after each of its steps, all of it in `state_dict`: how a method trains.

Tensors that the method keeps travel in state_dict()["state"]["method"], numbers in state_dict()["method"]; so a checkpoint of a
run holds them, and a killed run goes on to the same bits.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nets.groups import ChannelGroups
from perspective.errors import InputError


class Stepping(Optimizer):
    """Abstract. `before` may change gradients and weights, `after` weights; both run without gradients being recorded.

    inner  the wrapped optimizer, whose parameter groups and state these are
    done   whole steps taken in this phase
    """

    def __init__(self, optimizer: Optimizer, groups: ChannelGroups) -> None:
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.inner, self.groups, self.done = optimizer, groups, 0
        self._share()
        trained = {id(p) for group in self.param_groups for p in group["params"]}
        for layer in groups.layers:
            if any(id(p) not in trained for p in layer.parameters):
                raise InputError(
                    f"the optimizer does not train every tensor of {layer.name}; give it all of the network's parameters"
                )

    @abstractmethod
    def before(self) -> None:
        """What happens between backward and the wrapped optimizer's step."""

    def after(self) -> None:
        """What happens after it: nothing."""
        return None

    def tensors(self) -> dict[str, Tensor]:
        """What the method keeps: none. The tensors themselves; `load_state_dict` copies into them."""
        return {}

    def numbers(self) -> dict[str, Any]:
        """JSON numbers the method keeps besides `done`: none."""
        return {}

    def take_numbers(self, numbers: dict[str, Any]) -> None:
        """Put back what `numbers` gave."""
        return None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.before()
        self.inner.step()
        self.after()
        self.done += 1
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's state, and the method's."""
        state = self.inner.state_dict()
        state["state"] = {**state["state"], "method": self.tensors()}
        return {**state, "method": {"done": self.done, **self.numbers()}}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; InputError where it was saved by another method's optimizer."""
        own, saved = self.tensors(), state_dict["state"].get("method", {})
        if "method" not in state_dict or own.keys() != saved.keys():
            raise InputError("this optimizer state was not saved by the same method; start the run again")
        inner = {key: value for key, value in state_dict.items() if key not in ("method", "state")}
        inner["state"] = {index: entries for index, entries in state_dict["state"].items() if index != "method"}
        self.inner.load_state_dict(inner)
        self._share()
        for name, tensor in own.items():
            tensor.copy_(saved[name])
        numbers = dict(state_dict["method"])
        self.done = numbers.pop("done")
        self.take_numbers(numbers)

    def _share(self) -> None:
        """One set of state and parameter groups, the wrapped optimizer's: the learning rate set here is its own."""
        self.state, self.param_groups = self.inner.state, self.inner.param_groups


def momentum_of(optimizer: Optimizer) -> float:
    """The momentum of SGD, 0 for an optimizer without one: a constant gradient g moves a weight by lr g / (1 - momentum)."""
    return max(float(group.get("momentum", 0.0)) for group in optimizer.param_groups)
