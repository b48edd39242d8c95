"""What stands in a network, as a small JSON object, and the module that such an object asks for: only ever a narrower one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nets.resnet import PadShortcut
from nets.shrink.attention import Attention, ConstantAttention
from nets.shrink.scatter import Constant, Gathered, Scatter, Scattered, constant
from perspective.errors import InputError

LIMIT = 65536  # channels of one layer


def specify(module: nn.Module) -> dict[str, Any] | None:
    """Kind and sizes of a module that removal makes or changes; None for any other."""
    kind = {"kind": type(module).__name__}
    if type(module) is nn.Conv2d:
        counts = {"in": module.in_channels, "out": module.out_channels, "groups": module.groups}
        return kind | counts | {"bias": module.bias is not None}
    if type(module) is nn.Linear:
        return kind | {"in": module.in_features, "out": module.out_features, "bias": module.bias is not None}
    if type(module) in (nn.BatchNorm2d, nn.BatchNorm1d):
        return kind | {"channels": module.num_features}
    if type(module) is Scatter:
        counts = {"in": module.in_channels, "out": module.out_channels, "constants": module.values.numel()}
        shape = {"ndim": module.values.dim(), "stride": module.stride}
        return kind | counts | shape | ({} if module.axis == 1 else {"axis": module.axis})
    if type(module) is Constant:
        return kind | {"out": module.out_channels}
    if type(module) is Attention:
        return kind | {"heads": module.heads}
    return kind if type(module) in (nn.Identity, Scattered, Gathered, ConstantAttention) else None


def replace_module(present: nn.Module, spec: Any, path: str) -> nn.Module:
    """The module that `spec` asks for in the place of `present`; InputError where it cannot stand there."""
    damaged = InputError(f"the description of layer {path} is damaged or belongs to another network; save it again")
    if not isinstance(spec, Mapping):
        raise damaged
    counts = [v for k, v in spec.items() if k in ("in", "out", "groups", "channels", "stride", "heads")]
    if not all(_is_count(v) for v in counts):
        raise damaged
    if specify(present) == spec:
        return present
    try:
        return _narrower(present, spec)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise damaged from error


def _narrower(present: nn.Module, spec: Mapping[str, Any]) -> nn.Module:
    kind = spec["kind"]
    normalises = isinstance(present, nn.BatchNorm2d | nn.BatchNorm1d)
    layer = isinstance(present, nn.Conv2d | nn.Linear)
    if kind in ("Conv2d", "Linear") and layer and kind == type(present).__name__:
        return _layer(present, spec)
    if isinstance(present, nn.BatchNorm2d | nn.BatchNorm1d) and kind == type(present).__name__:
        _only_narrower((spec["channels"], present.num_features))
        tracks = present.running_mean is not None
        return type(present)(spec["channels"], present.eps, present.momentum, present.affine, tracks)
    if kind == "Constant" and isinstance(present, nn.Conv2d | nn.Linear):
        return constant(torch.zeros(spec["out"], device=present.weight.device), present)
    if kind == "Identity" and normalises:
        return nn.Identity()
    if kind == "Scattered" and (normalises or layer):
        return Scattered(present, nn.Identity())  # the two places are filled by the entries path.0 and path.1
    if kind == "Gathered" and isinstance(present, nn.Conv2d):
        return Gathered(nn.Identity(), present)
    if kind == "Scatter" and isinstance(present, PadShortcut | nn.Identity) and spec["ndim"] in (2, 3, 4, 5):
        _only_narrower((spec["constants"], LIMIT), (0, spec["constants"]))
        axis = spec.get("axis", 1)
        if axis not in (1, -1) or isinstance(axis, bool):
            raise ValueError("channels lie along dimension 1 or the last")
        return Scatter(spec["in"], spec["out"], spec["constants"], spec["ndim"], spec["stride"], axis)
    if isinstance(present, nn.MultiheadAttention | Attention):
        return _attention(present, spec)
    raise ValueError(kind)


def _layer(present: Any, spec: Mapping[str, Any]) -> nn.Module:
    bias = bool(spec["bias"])
    if isinstance(present, nn.Linear):
        _only_narrower((spec["in"], present.in_features), (spec["out"], present.out_features))
        return nn.Linear(spec["in"], spec["out"], bias)
    # the places that fill a group may add a few inputs to what is left, never to what was there
    _only_narrower(
        (spec["in"], present.in_channels), (spec["out"], present.out_channels), (spec["groups"], present.groups)
    )
    return nn.Conv2d(
        *(spec["in"], spec["out"], present.kernel_size, present.stride, present.padding, present.dilation),
        *(spec["groups"], bias, present.padding_mode),
    )


def _attention(present: Any, spec: Mapping[str, Any]) -> nn.Module:
    if spec["kind"] == "ConstantAttention":
        return ConstantAttention(present.embed_dim)
    if spec["kind"] != "Attention":
        raise ValueError(spec["kind"])
    heads = present.heads if isinstance(present, Attention) else present.num_heads
    _only_narrower((spec["heads"], heads))
    bias = present.in_proj_bias is not None
    return Attention(present.embed_dim, spec["heads"], present.head_dim, present.dropout, bias)


def _only_narrower(*pairs: tuple[int, int]) -> None:
    if any(asked > present for asked, present in pairs):
        raise ValueError("wider than the network it is made from")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LIMIT
