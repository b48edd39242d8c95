"""Derivations kept on disk: what was derived once is read back, equal field by field.

The folder is $PERSPECTIVE_CACHE, else $XDG_CACHE_HOME/perspective, else ~/.cache/perspective; PERSPECTIVE_CACHE=off
keeps nothing. A file is found by the block and the version (this package's own source text and sympy's number), so an
edited derivation never meets an old result. It is JSON with every expression as text (`written.py`); what is damaged, or
cannot be read or written, is derived again: the answer is the same, only later.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import types
import typing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sympy

from perspective.block import IndicatorBlock
from perspective.errors import InputError
from perspective.files import write_text
from perspective.regularizer import Regularizer
from perspective.written import read_expression, write_expression

VARIABLE = "PERSPECTIVE_CACHE"
MOST_FILES = 512  # beyond it the oldest go; a derivation takes about 10 kB


def find_folder() -> Path | None:
    """Where derivations are kept; None where nothing is to be kept, or there is no home folder."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen:
        return None if chosen.lower() == "off" else Path(chosen)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared / "perspective"
    try:
        return Path.home() / ".cache" / "perspective"
    except RuntimeError:
        return None


def load(block: IndicatorBlock, folder: Path) -> Regularizer | None:
    """The block's derivation as it was stored, or None: never stored, another version, or damaged."""
    try:
        key = _key(block)
        content = json.loads(_file(key, folder).read_text(encoding="utf-8"))
        if content["key"] != key or content["sha256"] != _digest(content["stages"]):
            return None
        hints = _stages()
        stages = {name: _decode(hint, content["stages"][name]) for name, hint in hints.items()}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # InputError and JSONDecodeError are ValueErrors
        return None
    return Regularizer(block, **stages)


def store(regularizer: Regularizer, folder: Path) -> None:
    """Keep a derivation, whole or not at all; silent where it cannot be written: it can always be derived again."""
    with contextlib.suppress(InputError, OSError):
        key = _key(regularizer.block)
        stages = {name: _encode(getattr(regularizer, name)) for name in _stages()}
        path = _file(key, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"key": key, "sha256": _digest(stages), "stages": stages}))
        _drop_oldest(path.parent)


@functools.cache
def version_text() -> str:
    """What a stored derivation depends on besides its block: versions, and every line of this package's source."""
    source = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        source.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    try:
        package = version("perspective-pruning")
    except PackageNotFoundError:  # run from a checkout that was not installed
        package = "unknown"
    return f"perspective {package}, sympy {sympy.__version__}, source {source.hexdigest()}"


def _key(block: IndicatorBlock) -> dict[str, Any]:
    fields = {field.name: _encode(getattr(block, field.name)) for field in dataclasses.fields(block)}
    return {"version": version_text(), "block": fields}


def _file(key: dict[str, Any], folder: Path) -> Path:
    return folder / "derivations" / f"{_digest(key)}.json"


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@functools.cache
def _stages() -> dict[str, Any]:
    """{field of Regularizer: its declared type}, the block left out."""
    return {name: hint for name, hint in typing.get_type_hints(Regularizer).items() if name != "block"}


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, sympy.Basic):
        return write_expression(value)
    if isinstance(value, tuple):
        return [_encode(part) for part in value]
    if dataclasses.is_dataclass(value):
        return {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise InputError(f"a {type(value).__name__} cannot be kept on disk")


def _decode(hint: Any, data: Any) -> Any:
    """The value of the declared type `hint`; the types come from the code, never from the file."""
    if isinstance(hint, types.UnionType):
        others = [choice for choice in typing.get_args(hint) if choice is not types.NoneType]
        return None if data is None else _decode(others[0], data)
    if typing.get_origin(hint) is tuple:
        return tuple(_decode(typing.get_args(hint)[0], part) for part in data)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{field.name: _decode(hints[field.name], data[field.name]) for field in dataclasses.fields(hint)})
    value = read_expression(data) if issubclass(hint, sympy.Basic) else data
    if not isinstance(value, hint):
        raise InputError(f"a stored {type(value).__name__} stands where a {hint.__name__} belongs")
    return value


def _drop_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in files[:-MOST_FILES]:
        path.unlink(missing_ok=True)
