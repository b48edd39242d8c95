"""Load a state dict of somebody else's training into a network, without ever opening a pickle that could run code.

safetensors files, or torch files read with weights_only=True; an entry "state_dict" and the prefix "module." (of
DataParallel) are understood. Names and shapes must match exactly; but torchvision's published ViT file has older names for the
two linear layers of each block, which are understood too.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from perspective.errors import InputError


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the file's tensors into `model`; raises InputError where the file or its names, shapes or values do not
    fit."""
    wanted = model.state_dict()
    found = {_present(name.removeprefix("module."), wanted): tensor for name, tensor in _read(Path(path)).items()}
    # torch counts batches in BatchNorm only for momentum=None; old files lack the counter
    missing = sorted(name for name in wanted if name not in found and not name.endswith("num_batches_tracked"))
    unknown = sorted(name for name in found if name not in wanted)
    if missing or unknown:
        raise InputError(
            f"{path} does not fit the network: {len(missing)} tensors are missing{_first(missing)} and "
            f"{len(unknown)} are unknown{_first(unknown)}; check --net, --width, --shortcut and the number of classes"
        )
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the network wants {tuple(wanted[name].shape)}; "
                "check --net, --width, --shortcut and the number of classes"
            )
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {name} contains NaN or infinite values; use a file of a finished training")
    model.load_state_dict({**wanted, **found})


def _present(name: str, wanted: Mapping[str, Tensor]) -> str:
    """The present name of a tensor that torchvision has renamed (MLPBlock, version 2), where the network wants that one."""
    renamed = name.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")
    return renamed if name not in wanted and renamed in wanted else name


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"no weights file at {path}; give the path of a safetensors or torch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        kind = "safetensors" if path.suffix == ".safetensors" else "a torch file of weights only"
        raise InputError(
            f"{path} cannot be read as {kind}"
            f" ({type(error).__name__}); it may be truncated, or hold objects other than tensors"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(
            f"{path} holds no state dict: it must map names to tensors, or have an entry 'state_dict' that does"
        )
    return dict(content)


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""
