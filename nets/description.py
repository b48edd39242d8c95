"""A network's shape as a small JSON object: the factory that makes it, and which of its layers were shrunk or replaced.

Kernel sizes, strides and the like are never written down: they are those of the network as its factory makes it, and the
description may only make layers narrower. So a damaged or hostile description cannot ask for anything large.
"""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nets.networks import ALL
from nets.resnet import PadShortcut
from nets.scatter import Constant, Scatter, Scattered, constant
from perspective.errors import InputError

LIMIT = 65536  # channels of one layer


def describe(model: nn.Module) -> dict[str, Any]:
    """{"architecture": name and arguments or None, "modules": {path: what stands there}}, ready for JSON.

    With an architecture (networks of nets.resnet) only the modules that differ from it are listed; a network of the user's
    own lists all of them, and needs an untouched copy of itself to be rebuilt.
    """
    architecture = getattr(model, "architecture", None)
    present = _specifications(model)
    if architecture is not None:
        with torch.device("meta"):
            original = _specifications(_build(architecture))
        present = {path: spec for path, spec in present.items() if original.get(path) != spec}
    return {"architecture": copy.deepcopy(architecture), "modules": present}


def rebuild(description: Mapping[str, Any], model: nn.Module | None = None) -> nn.Module:
    """An untrained network of the described shape; `model`: an untouched network of the user's own class (not changed).

    InputError where the description does not fit the architecture or is damaged.
    """
    architecture, modules = description.get("architecture"), description.get("modules")
    if not isinstance(modules, Mapping):
        raise InputError("the description lists no modules; it is damaged, save the network again")
    if model is None and architecture is None:
        raise InputError(
            "this is a network of your own class; pass an untouched one: load(folder, model=YourNetwork())"
        )
    network = copy.deepcopy(model) if model is not None else _build(architecture)
    for path in sorted(modules, key=lambda path: (str(path).count("."), str(path))):
        try:
            present = network.get_submodule(path)
        except AttributeError as error:
            raise InputError(
                f"the description names a layer {path!r} that {type(network).__name__} does not have; rebuild it from "
                "the description that was saved with it"
            ) from error
        replacement = _replace(present, modules[path], path)
        if replacement is not present:
            network.set_submodule(path, replacement)
    return network


def _build(architecture: Any) -> nn.Module:
    if not isinstance(architecture, Mapping) or not isinstance(architecture.get("arguments"), Mapping):
        raise InputError("the architecture must be {'name': ..., 'arguments': {...}}; save the network again")
    name, arguments = architecture.get("name"), dict(architecture["arguments"])
    factory = next((f for f in ALL if f.__name__ == name), None)
    if factory is None:
        raise InputError(f"unknown architecture {name!r}; known are {', '.join(f.__name__ for f in ALL)}")
    unknown = set(arguments) - set(inspect.signature(factory).parameters)
    large = [k for k, v in arguments.items() if not isinstance(v, str) and not _is_count(v)]
    if unknown or large:
        culprits = ", ".join(sorted(map(str, unknown or large)))
        raise InputError(f"{name} cannot be built: bad argument {culprits}; save the network again")
    return factory(**arguments)


def _specifications(model: nn.Module) -> dict[str, dict[str, Any]]:
    described = {path: _specify(module) for path, module in model.named_modules() if path}
    return {path: spec for path, spec in described.items() if spec is not None}


def _specify(module: nn.Module) -> dict[str, Any] | None:
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
        return kind | counts | {"ndim": module.values.dim(), "stride": module.stride}
    if type(module) is Constant:
        return kind | {"out": module.out_channels}
    return kind if type(module) in (nn.Identity, Scattered) else None


def _replace(present: nn.Module, spec: Any, path: str) -> nn.Module:
    """The module that `spec` asks for in the place of `present`."""
    damaged = InputError(f"the description of layer {path} is damaged or belongs to another network; save it again")
    if not isinstance(spec, Mapping):
        raise damaged
    counts = [v for k, v in spec.items() if k in ("in", "out", "groups", "channels", "stride")]
    if not all(_is_count(v) for v in counts):
        raise damaged
    if _specify(present) == spec:
        return present
    try:
        return _shrunk(present, spec)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise damaged from error


def _shrunk(present: nn.Module, spec: Mapping[str, Any]) -> nn.Module:
    kind = spec["kind"]
    normalises = isinstance(present, nn.BatchNorm2d | nn.BatchNorm1d)
    if kind == "Conv2d" and isinstance(present, nn.Conv2d):
        _only_narrower((spec["in"], present.in_channels), (spec["out"], present.out_channels))
        return nn.Conv2d(
            *(spec["in"], spec["out"], present.kernel_size, present.stride, present.padding, present.dilation),
            *(spec["groups"], bool(spec["bias"]), present.padding_mode),
        )
    if kind == "Linear" and isinstance(present, nn.Linear):
        _only_narrower((spec["in"], present.in_features), (spec["out"], present.out_features))
        return nn.Linear(spec["in"], spec["out"], bool(spec["bias"]))
    if isinstance(present, nn.BatchNorm2d | nn.BatchNorm1d) and kind == type(present).__name__:
        _only_narrower((spec["channels"], present.num_features))
        tracks = present.running_mean is not None
        return type(present)(spec["channels"], present.eps, present.momentum, present.affine, tracks)
    if kind == "Constant" and isinstance(present, nn.Conv2d | nn.Linear):
        return constant(torch.zeros(spec["out"], device=present.weight.device), present)
    if kind == "Identity" and normalises:
        return nn.Identity()
    if kind == "Scattered" and (normalises or isinstance(present, nn.Conv2d | nn.Linear)):
        return Scattered(present, nn.Identity())  # the two places are filled by the entries path.0 and path.1
    if kind == "Scatter" and isinstance(present, PadShortcut | nn.Identity) and spec["ndim"] in (2, 4):
        _only_narrower((spec["constants"], LIMIT), (0, spec["constants"]))
        return Scatter(spec["in"], spec["out"], spec["constants"], spec["ndim"], spec["stride"])
    raise ValueError(kind)


def _only_narrower(*pairs: tuple[int, int]) -> None:
    if any(asked > present for asked, present in pairs):
        raise ValueError("wider than the network it is made from")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LIMIT
