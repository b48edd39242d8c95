"""Groups inside transformers and plain MLPs: the rows of a hidden Linear layer, and the heads of self-attention.

A Linear layer is hidden where everything that reads its outputs is a Linear layer again, behind functions of single
numbers (activations, dropout, BatchNorm1d): then row and bias of a unit, and (gamma, beta) of a BatchNorm1d that reads it
directly, die together and nothing else does. A head owns its rows of in_proj_weight and in_proj_bias in q, k and v.
Both are found by listening to one forward pass; the classifier, whose outputs the network returns, is never hidden.
"""

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from nets.flow.forward_once import forward_once
from nets.shrink.attention import Attention
from nets.structures.slices import Layer, Span

MAPS = frozenset(
    getattr(room, name)
    for name in (
        *(
            "relu",
            "relu_",
            "relu6",
            "leaky_relu",
            "elu",
            "gelu",
            "silu",
            "mish",
            "hardswish",
            "hardsigmoid",
            "hardtanh",
        ),
        *("softplus", "sigmoid", "tanh", "dropout", "clone", "contiguous", "detach", "float", "double"),
    )
    for room in (F, torch, Tensor)
    if hasattr(room, name)
)
ATTENTIONS = (nn.MultiheadAttention, Attention)
SHAPES = frozenset({Tensor.size, Tensor.dim, Tensor.numel, Tensor.stride, Tensor.__len__, Tensor.is_contiguous})


def hidden_groups(
    model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]
) -> tuple[tuple[Layer, ...], tuple[tuple[str, str], ...]]:
    """(the Layers of hidden Linear layers and heads in the order of their call, (name, reason) of those that are none)."""
    listener = _Listener(model)
    with listener:
        outputs = forward_once(model, example_inputs)
    for tensor in tree_leaves(outputs):
        if isinstance(tensor, Tensor) and tensor in listener.source:
            listener.spoiled[listener.source[tensor]] = "its outputs are the network's outputs"
    layers, skipped = [], []
    owners = _owners(model)
    for name in listener.called:
        module = model.get_submodule(name)
        if any(len(owners[id(p)]) > 1 for p in module.parameters()):
            listener.spoiled[name] = "it shares a parameter with another layer"
        elif isinstance(module, nn.Linear) and name not in listener.read:
            listener.spoiled.setdefault(name, "no Linear layer reads its outputs")
        if name in listener.spoiled:
            skipped.append((name, listener.spoiled[name]))
        elif isinstance(module, nn.Linear):
            bn = listener.norms.get(name)
            parameters = [module.weight, module.bias]
            if bn is not None:
                parameters += [model.get_submodule(bn).weight, model.get_submodule(bn).bias]
            spans = tuple(Span(p) for p in parameters if p is not None)
            layers.append(Layer(name, bn, spans, module.out_features, (name,)))
        else:
            layers.append(_heads(name, module))
    for name, module in listener.modules.items():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is None:
            skipped.append((name, "its keys or values have another width than its queries"))
        elif name not in listener.owner.values() and name not in listener.called and isinstance(module, nn.Linear):
            skipped.append((name, "it has no parameter of its own (a parametrisation?)"))
    return tuple(layers), tuple(skipped)


def _heads(name: str, attention: nn.MultiheadAttention | Attention) -> Layer:
    """Head h owns rows h d ... (h + 1) d - 1, d = head_dim, of each of the three blocks q, k, v."""
    heads = attention.heads if isinstance(attention, Attention) else attention.num_heads
    width = heads * attention.head_dim
    rows = torch.arange(width, device=attention.in_proj_weight.device).reshape(heads, -1)
    index = torch.cat([rows, rows + width, rows + 2 * width], dim=1)
    parameters = [p for p in (attention.in_proj_weight, attention.in_proj_bias) if p is not None]
    return Layer(name, None, tuple(Span(p, 0, index) for p in parameters), heads, (name,))


def _owners(model: nn.Module) -> dict[int, set[str]]:
    owners: dict[int, set[str]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), set()).add(path)
    return owners


@final
@dataclass(eq=False)
class _Listener(TorchFunctionMode):
    """Hears every torch function of a forward pass and remembers from which Linear layer each tensor comes.

    source   the Linear layer whose outputs, unit by unit, a tensor holds
    called   Linear and attention layers in the order of their call; read: Linear layers that a Linear layer reads
    norms    Linear layer -> BatchNorm1d that reads it directly; spoiled: layer -> why it is not hidden
    """

    model: nn.Module
    source: Any = field(default_factory=WeakIdKeyDictionary)
    called: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    norms: dict[str, str] = field(default_factory=dict)
    spoiled: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        kinds = (nn.Linear, *ATTENTIONS, nn.BatchNorm1d)
        self.modules = {name: m for name, m in self.model.named_modules() if isinstance(m, kinds)}
        self.owner = {
            id(weight): name
            for name, module in self.modules.items()
            for weight in [module.in_proj_weight if isinstance(module, ATTENTIONS) else module.weight]
            if isinstance(weight, nn.Parameter)
        }
        self.fresh: Any = WeakIdKeyDictionary()  # tensors as a Linear layer wrote them

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        tagged = [x for x in inputs if x in self.source]
        if func is F.linear:
            self._note_linear(args, kwargs, tagged, output)
        elif func is F.multi_head_attention_forward:
            self._note_attention(inputs, args, kwargs)
            self._spoil(tagged, func)
        elif (
            not tagged
            or func in SHAPES
            or (getattr(func, "__name__", "") == "__get__" and not isinstance(output, Tensor))
        ):
            pass
        elif func in MAPS and len(tagged) == 1 and tagged[0] is args[0]:
            self.source[output] = self.source[tagged[0]]
            if output is tagged[0]:  # written over in place
                self.fresh.pop(output, None)
        elif func is F.batch_norm and len(tagged) == 1 and tagged[0] is args[0] and args[0].ndim == 2:
            self._note_norm(args[0], inputs, output)
        else:
            self._spoil(tagged, func)
        return output

    def _note_linear(self, args: Any, kwargs: Any, tagged: list[Tensor], output: Tensor) -> None:
        read, weight = (args[0] if args else kwargs["input"]), (args[1] if len(args) > 1 else kwargs["weight"])
        self.read.update(self.source[x] for x in tagged if x is read)
        self._spoil([x for x in tagged if x is not read], F.linear)
        name = self.owner.get(id(weight))
        if name is not None:
            self._note_call(name)
        if name is not None and isinstance(self.modules[name], nn.Linear):
            self.source[output] = name
            self.fresh[output] = True

    def _note_attention(self, inputs: list[Tensor], args: Any, kwargs: Any) -> None:
        name = next((self.owner[id(x)] for x in inputs if id(x) in self.owner), None)
        if name is None:
            return
        self._note_call(name)
        module = self.modules[name]
        if module.bias_k is not None or module.add_zero_attn:
            self.spoiled[name] = "keys and values are appended to its own (add_bias_kv or add_zero_attn)"

    def _note_norm(self, x: Tensor, inputs: list[Tensor], output: Tensor) -> None:
        name = next((self.owner[id(p)] for p in inputs if id(p) in self.owner), None)
        layer = self.source[x]
        self.source[output] = layer
        if name is not None and x in self.fresh:
            self.norms[layer] = name

    def _note_call(self, name: str) -> None:
        if name in self.called:
            self.spoiled[name] = "it is called twice in one forward pass"
        else:
            self.called.append(name)

    def _spoil(self, tensors: list[Tensor], func: Any) -> None:
        for tensor in tensors:
            name = getattr(func, "__name__", str(func))
            self.spoiled.setdefault(self.source[tensor], f"{name} reads its outputs, not only a Linear layer")
