"""A network on disk: manifest.json (its shape, versions, checksum) and weights.safetensors. No pickle is ever opened.

Both files are written into a temporary folder that takes the place of the old one in one rename.
"""

import copy
import hashlib
import json
import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from nets.description import describe, rebuild
from nets.shrink.scatter import Scatter
from perspective.errors import InputError

__all__ = ["describe", "load", "rebuild", "save_model"]

FORMAT = 1
LARGEST_MANIFEST = 16 * 2**20  # bytes
WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"


def save_model(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Write `model` into `folder` (created or replaced). InputError if it could not be loaded again, or not be written."""
    target = Path(folder)
    description = describe(model)
    if description["architecture"] is not None:
        with torch.device("meta"):
            _refuse_mismatch(rebuild(description), model.state_dict(), "was changed by more than removing channels")
    contiguous = torch.contiguous_format
    data = safetensors.torch.save(
        {name: tensor.detach().cpu().clone(memory_format=contiguous) for name, tensor in model.state_dict().items()}
    )
    manifest = {
        "format": FORMAT,
        **description,
        "channels_last": _is_channels_last(model),
        "sha256": hashlib.sha256(data).hexdigest(),
        "versions": {name: _version(name) for name in ("perspective-pruning", "torch", "safetensors")},
    }
    try:
        text = json.dumps(manifest, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError("model.architecture must hold plain JSON values only: a name and its arguments") from error
    try:
        _write(target, data, text.encode())
    except OSError as error:
        raise InputError(f"cannot write the network to {target} ({error.strerror}); choose another folder") from error


def load(folder: str | os.PathLike[str], model: nn.Module | None = None) -> nn.Module:
    """The network saved in `folder`, on the CPU, in evaluation mode: the same weights, bit for bit.

    `model`: an untouched network of the user's own class, needed when the saved one was not made by nets.resnet; it is not
    changed. InputError for a missing, truncated or altered file and for a description that does not fit.
    """
    source = Path(folder)
    manifest = _read_manifest(source)
    with torch.device("meta"):
        network = rebuild(manifest, None if model is None else copy.deepcopy(model).to("meta"))
    path = _inside(source, WEIGHTS)
    largest = sum(8 * t.numel() for t in network.state_dict().values()) + LARGEST_MANIFEST
    if path.stat().st_size > largest:
        raise InputError(f"{path} is far larger than the network it belongs to; save the network again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != manifest.get("sha256"):
        raise InputError(f"{path} is truncated or was changed after saving (checksum differs); save the network again")
    try:
        weights = {name: tensor.clone() for name, tensor in safetensors.torch.load(data).items()}
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file; save the network again") from error
    _refuse_mismatch(network, weights, f"in {source} does not fit its own manifest")
    network.load_state_dict(weights, assign=True)
    for name, module in network.named_modules():
        if isinstance(module, Scatter) and not _points_inside(module):
            raise InputError(f"{path} sends channels of {name} out of range; save the network again")
    if manifest.get("channels_last") is True:
        network = network.to(memory_format=torch.channels_last)
    return network.eval()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = _inside(folder, MANIFEST)
    if path.stat().st_size > LARGEST_MANIFEST:
        raise InputError(f"{path} is too large to be a manifest; save the network again")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON; save the network again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path} is not a manifest of format {FORMAT}; save the network again with this version")
    return manifest


def _inside(folder: Path, name: str) -> Path:
    """folder/name, a plain file that lies in the folder itself and not behind a link."""
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path} is missing; give the model folder that save_model wrote")
    if path.resolve() != folder.resolve() / name:
        raise InputError(f"{path} is a link out of its folder; copy the file itself there")
    return path


def _refuse_mismatch(network: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    expected = network.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape]
    wrong += [
        k for k in expected.keys() & weights.keys() if expected[k].is_floating_point() != weights[k].is_floating_point()
    ]
    if wrong:
        raise InputError(f"the network {what} (first at {wrong[0]}); save it again with a fitting architecture")


def _points_inside(module: Scatter) -> bool:
    return bool(((module.index >= 0) & (module.index < module.in_channels + module.values.numel())).all())


def _is_channels_last(model: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) and not m.weight.is_contiguous() for m in model.modules())


def _write(target: Path, data: bytes, manifest: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(f"{target} is not a plain folder; choose another one for the network")
    if target.exists() and {entry.name for entry in target.iterdir()} - {WEIGHTS, MANIFEST}:
        raise InputError(f"{target} holds other files, which would be lost; choose another folder for the network")
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        temporary.chmod(0o755)
        for name, content in ((WEIGHTS, data), (MANIFEST, manifest)):
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():  # a folder that is not empty cannot be renamed over: the old one steps aside first
            aside = temporary.with_name(temporary.name + ".old")
            os.replace(target, aside)
            os.replace(temporary, target)
            shutil.rmtree(aside)
        else:
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
