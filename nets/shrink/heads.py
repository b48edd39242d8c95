"""Remove attention heads that add the same numbers at every position, whatever the input.

A head's output is an average of its value vectors with weights that sum to one. Where its value rows are zero that average is
its value bias b, and the head adds out_proj[:, head] b; where its columns of out_proj are zero it adds nothing.
"""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from nets.flow.trace import Trace
from nets.shrink.attention import Attention, ConstantAttention


def self_attentions(traced: Trace, exclusive: frozenset[str]) -> tuple[str, ...]:
    """Paths of the attention modules that may lose heads: one tensor for query, key and value, no masks, weights unread."""
    return tuple(
        str(node.target)
        for node in traced.nodes
        if node.op == "call_module"
        and str(node.target) in exclusive
        and _is_plain(node, traced.modules[str(node.target)])
    )


@torch.no_grad()
def shrink_heads(model: nn.Module, paths: Sequence[str]) -> dict[str, int]:
    """Replace those modules of `model` that have such heads. Returns the heads that are left, by path."""
    after = {}
    for path in paths:
        module = model.get_submodule(path)
        if not isinstance(module, nn.MultiheadAttention | Attention):
            raise TypeError(f"{path} is no attention module")
        heads, width = _shape(module)
        kept = torch.nonzero(_varying(module)).flatten()
        if len(kept) < heads:
            smaller: nn.Module = _fewer(module, kept, width) if len(kept) else _none_left(module, width)
            model.set_submodule(path, smaller)
        after[path] = len(kept)
    return after


def _is_plain(node: fx.Node, module: nn.Module) -> bool:
    standard = type(module) is nn.MultiheadAttention and (
        module.batch_first
        and module.in_proj_weight is not None
        and module.bias_k is None
        and module.bias_v is None
        and not module.add_zero_attn
    )
    if not (standard or type(module) is Attention):
        return False
    inputs = [*node.args, *(node.kwargs[name] for name in ("query", "key", "value") if name in node.kwargs)]
    one = len(inputs) == 3 and all(given is inputs[0] for given in inputs)
    rest = {
        k: v
        for k, v in node.kwargs.items()
        if k not in ("query", "key", "value", "need_weights", "average_attn_weights")
    }
    weights_read = node.kwargs.get("need_weights", True) and not all(
        user.target is operator.getitem and (user.args[1] == 0 or not user.users) for user in node.users
    )
    return one and not weights_read and not any(rest.values())


def _shape(module: nn.MultiheadAttention | Attention) -> tuple[int, int]:
    """Heads, and numbers in one head."""
    return (module.heads if isinstance(module, Attention) else module.num_heads), module.head_dim


def _varying(module: nn.MultiheadAttention | Attention) -> Tensor:
    """(heads,) boolean: does this head's contribution depend on the input?"""
    heads, width = _shape(module)
    value = module.in_proj_weight.detach().cpu().view(3, heads, -1)[2]
    out = module.out_proj.weight.detach().cpu().view(-1, heads, width)
    return (value != 0).any(1) & (out != 0).any(2).any(0)


def _offset(module: nn.MultiheadAttention | Attention, gone: Tensor) -> Tensor:
    """What the heads that go have added to every position: (embed_dim,) float64, out_proj's bias included."""
    heads, width = _shape(module)
    weight = module.out_proj.weight.detach().double().cpu().view(-1, heads, width)[:, gone]
    bias = module.out_proj.bias
    offset = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.detach().double().cpu()
    if module.in_proj_bias is None:
        return offset
    value = module.in_proj_bias.detach().double().cpu().view(3, heads, width)[2, gone]
    return offset + torch.einsum("ohk,hk->o", weight, value)


def _fewer(module: nn.MultiheadAttention | Attention, kept: Tensor, width: int) -> Attention:
    heads, gone = _shape(module)[0], torch.ones(_shape(module)[0], dtype=torch.bool)
    gone[kept] = False
    bias = module.in_proj_bias is not None
    like = module.in_proj_weight
    with torch.device("meta"):  # so that no random number is drawn
        smaller = Attention(like.shape[1], len(kept), width, module.dropout, bias)
    place = kept.to(like.device)
    smaller.in_proj_weight = _parameter(like.view(3, heads, width, -1)[:, place].flatten(0, 2), like)
    smaller.out_proj.weight = _parameter(
        module.out_proj.weight.view(-1, heads, width)[:, place].flatten(1), module.out_proj.weight
    )
    if bias:
        smaller.in_proj_bias = _parameter(
            module.in_proj_bias.view(3, heads, width)[:, place].flatten(), module.in_proj_bias
        )
        smaller.out_proj.bias = _parameter(_offset(module, gone).to(like), module.out_proj.bias)
    return smaller


def _none_left(module: nn.MultiheadAttention | Attention, width: int) -> ConstantAttention:
    like = module.in_proj_weight
    offset = _offset(module, torch.ones(_shape(module)[0], dtype=torch.bool))
    constant = ConstantAttention(len(offset)).to(like)
    constant.values.copy_(offset)
    return constant


def _parameter(value: Tensor, like: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=like.requires_grad)
