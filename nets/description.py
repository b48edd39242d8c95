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
from nets.shrink.parameters_of_its_own import describe_parameters, narrow_parameters
from nets.shrink.replacements import replace_module, specify
from perspective.errors import InputError

LIMIT = 65536  # channels of one layer


def describe(model: nn.Module) -> dict[str, Any]:
    """{"architecture": name and arguments or None, "modules": {path: what stands there}, "parameters": {path: shape}}, for
    JSON; the parameters are those that a module of the network's own holds itself.

    With an architecture (networks of nets.networks) only what differs from it is listed; a network of the user's own
    lists everything, and needs an untouched copy of itself to be rebuilt.
    """
    architecture = getattr(model, "architecture", None)
    present, parameters = _specifications(model), describe_parameters(model)
    if architecture is not None:
        with torch.device("meta"):
            untouched = _build(architecture)
        original, shapes = _specifications(untouched), describe_parameters(untouched)
        present = {path: spec for path, spec in present.items() if original.get(path) != spec}
        parameters = {path: shape for path, shape in parameters.items() if shapes.get(path) != shape}
    return {"architecture": copy.deepcopy(architecture), "modules": present, "parameters": parameters}


def rebuild(description: Mapping[str, Any], model: nn.Module | None = None) -> nn.Module:
    """An untrained network of the described shape; `model`: an untouched network of the user's own class (not changed).

    InputError where the description does not fit the architecture or is damaged.
    """
    architecture, modules = description.get("architecture"), description.get("modules")
    parameters = description.get("parameters", {})  # absent before there were any
    if not isinstance(modules, Mapping) or not isinstance(parameters, Mapping):
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
        replacement = replace_module(present, modules[path], path)
        if replacement is not present:
            network.set_submodule(path, replacement)
    narrow_parameters(network, parameters)
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
    described = {path: specify(module) for path, module in model.named_modules() if path}
    return {path: spec for path, spec in described.items() if spec is not None}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LIMIT
