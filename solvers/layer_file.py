"""Layers from .npz files: arrays `inputs` (samples, d), `targets` (samples,) or (samples, outputs), `groups` (d,)."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from perspective.errors import InputError

NAMES = ("inputs", "targets", "groups")


def read_layer(path: Path) -> tuple[Any, Any, Any]:
    """The three arrays; InputError where the file is missing, damaged, or lacks one. Never opens a pickle."""
    if not path.is_file():
        raise InputError(f"there is no file {path}; give an .npz with the arrays {', '.join(NAMES)}")
    try:
        with path.open("rb") as handle:  # ours to close, also where numpy gives up half-way
            archive = np.load(handle, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path} is not an .npz; write it with numpy.savez(path, inputs=..., targets=...)")
            missing = [name for name in NAMES if name not in archive.files]
            if missing:
                raise InputError(f"{path} lacks the array {missing[0]!r}; it must hold {', '.join(NAMES)}")
            arrays = {name: archive[name] for name in NAMES}
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OSError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read as an .npz of plain arrays; it may be truncated: save it again"
        ) from error
    groups = arrays["groups"]
    if groups.dtype.kind == "f" and np.all(np.isfinite(groups)) and np.all(groups == np.round(groups)):
        groups = groups.astype(np.int64)  # labels that numpy happened to save as floats
    return arrays["inputs"], arrays["targets"], groups
