"""Run torch-pruning on a copy of the network: the dependency graph of its layers, inputs included.

torch-pruning follows autograd back from the outputs. The copy is in float64 (the numeric test of coupling_check.py uses
it again), and every floating input passes a `Source` first, so that the graph shows where an input enters.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nets.resnet import PadShortcut
from nets.shrink.scatter import Scatter
from perspective.errors import InputError

ROUTES = (PadShortcut, Scatter)


@final
class Source(nn.Module):
    """Stands before an input of the network and gives it a place in autograd."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().clone().requires_grad_() * 1


@final
class Sourced(nn.Module):
    """The network behind its sources; yields the list of its output tensors that autograd knows."""

    def __init__(self, network: nn.Module, inputs: int) -> None:
        super().__init__()
        self.network, self.sources = network, nn.ModuleList(Source() for _ in range(inputs))

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        pairs = zip(self.sources, inputs, strict=True)
        outputs = self.network(*[source(x) if x.is_floating_point() else x for source, x in pairs])
        # times one: an operation of its own behind every output, which torch-pruning notes as an output
        return [x * 1 for x in tree_leaves(outputs) if isinstance(x, Tensor) and x.grad_fn is not None]


@final
class Passage:
    """torch-pruning's view of a module that routes channels: inputs and outputs are told apart, and neither is pruned."""

    def __init__(self, widths: dict[nn.Module, tuple[int, int]]) -> None:
        self.widths, self.pruning_dim = widths, 1

    def prune_out_channels(self, layer: nn.Module, idxs: Any) -> nn.Module:
        return layer

    def prune_in_channels(self, layer: nn.Module, idxs: Any) -> nn.Module:
        return layer

    def get_in_channels(self, layer: nn.Module) -> int:
        return self.widths[layer][0]

    def get_out_channels(self, layer: nn.Module) -> int:
        return self.widths[layer][1]


@final
@dataclass(frozen=True, eq=False)
class Trace:
    """network: the copy; inputs: as it takes them; graph: torch-pruning's; calls: how often each module with parameters ran,
    by name, in the order of the first call; widths: (inputs, outputs) of the modules that route channels."""

    network: nn.Module
    inputs: tuple[Tensor, ...]
    graph: Any
    calls: dict[str, int]
    widths: dict[nn.Module, tuple[int, int]]


def trace_dependencies(model: nn.Module, inputs: tuple[Tensor, ...]) -> Trace:
    """Copy `model` and build its dependency graph. InputError names the module that cannot be followed, and why."""
    tp = _import_torch_pruning()
    try:
        network = copy.deepcopy(model).double().eval().requires_grad_(True)
        # a channels_last layout adds copies to autograd (AsStrided) that are known to nobody
        network = network.to(memory_format=torch.contiguous_format)
    except Exception as error:  # a user's own module may refuse to be copied in any way
        raise InputError(
            f"the network cannot be copied ({_first_line(error)}), and coupled groups are sought on a copy in float64"
        ) from error
    fed = tuple(x.detach().double().contiguous() if x.is_floating_point() else x for x in inputs)
    graph, widths = tp.DependencyGraph(), {}
    sourced = Sourced(network, len(fed))
    with _watch(sourced, widths) as (path, calls), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch-pruning guesses here is tested afterwards
        try:
            graph.build_dependency(
                sourced,
                fed,
                forward_fn=lambda module, batch: module(*batch),
                customized_pruners={kind: Passage(widths) for kind in (Source, *ROUTES)},
                verbose=False,
            )
        except Exception as error:  # a user's own forward, or torch-pruning on a shape it does not expect
            where = path[-1] if path else _find_culprit(error, network)
            raise InputError(
                f"torch-pruning cannot follow the channels through {where} ({_first_line(error)}); "
                "rewrite it with operations that autograd records, or use coupled=False"
            ) from error
    return Trace(network, fed, graph, calls, widths)


@contextmanager
def _watch(sourced: Sourced, widths: dict[nn.Module, tuple[int, int]]) -> Iterator[tuple[list[str], dict[str, int]]]:
    """(names of the network's modules that are running now, calls of those with parameters) while the block runs."""
    path: list[str] = []
    calls: dict[str, int] = {}
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def enter(*_: Any) -> None:
            path.append(name)
            if module._parameters:
                calls[name] = calls.get(name, 0) + 1

        def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            path.pop()  # after an error the last entry names the culprit
            if isinstance(module, (Source, *ROUTES)):
                widths[module] = tuple(x.shape[1] if x.ndim > 1 else 1 for x in (inputs[0], output))

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))

    for name, module in [*sourced.network.named_modules(), *sourced.sources.named_modules(prefix="the inputs")]:
        watch(name or "the network's own forward", module)
    try:
        yield path, calls
    finally:
        for handle in handles:
            handle.remove()


def _find_culprit(error: Exception, network: nn.Module) -> str:
    """The last module before the operation that torch-pruning was reading when it failed: its frames hold the node."""
    names = {module: name for name, module in network.named_modules() if name}
    nodes, frame = [], error.__traceback__
    while frame is not None:
        nodes = [x for x in frame.tb_frame.f_locals.values() if hasattr(x, "grad_fn") and hasattr(x, "inputs")] or nodes
        frame = frame.tb_next
    seen = set()
    while nodes:
        node = nodes.pop(0)
        if node.module in names:
            return f"the operations behind {names[node.module]}"
        seen.add(node)
        nodes += [source for source in node.inputs if source not in seen]
    return f"the operations between the modules of {type(network).__name__}"


def _import_torch_pruning() -> Any:
    try:
        import torch_pruning
    except ImportError as error:
        raise InputError(
            f"coupled groups need torch-pruning ({_first_line(error)}); pip install torch-pruning, or use coupled=False"
        ) from error
    return torch_pruning


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
