"""Whole files or nothing: text is written beside its target and renamed over it."""

import contextlib
import os
from pathlib import Path

from perspective.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically; InputError where the folder cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the folder itself may be what is wrong
            temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --out") from error
