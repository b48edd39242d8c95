"""The compiled programs of `nets/fused/norm_kernel.py` by dtype, called with tensors' addresses."""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nets.fused.machine_code import call, find_code

WORDS = {torch.float32: "float32", torch.bfloat16: "uint16"}  # as numba takes them
# arguments in order: w a whole number; an address of t the tensor's words, f float32, d float64
ARGUMENTS = {"measure": "twwwfdd" + "d", "normalise": "tttwwwf", "collect": "tttwwwffd", "give_back": "tttttwwwf"}


@cache
def program(name: str, dtype: torch.dtype) -> Callable[..., None]:
    """`measure`, `normalise`, `collect` or `give_back` of the kernel, for tensors of this dtype; see `_entries`."""
    word, letters = WORDS[dtype], ARGUMENTS[name]

    def build() -> tuple[Any, Any]:
        from numba import types

        word_type = types.CPointer(getattr(types, word))
        kinds = {"t": word_type, "f": types.CPointer(types.float32), "d": types.CPointer(types.float64), "w": types.int64}
        return _entries()[name], types.void(*(kinds[letter] for letter in letters))

    text = "\n".join((name, word, *(_own_text(file) for file in ("norm_kernel.py", "norm_programs.py"))))
    return call(find_code(text, build), tuple(ctypes.c_int64 if k == "w" else ctypes.c_void_p for k in letters))


def _entries() -> dict[str, Callable[..., None]]:
    """size: numbers of a tensor; period: of a tile; added: is there a residual?"""
    from numba import carray

    from nets.fused import norm_kernel as kernel

    measured, normalised, collected, given_back = kernel.measure, kernel.normalise, kernel.collect, kernel.give_back

    def measure(x, size, channels, period, scratch, lanes, sums, found):
        measured(
            carray(x, (size,)),
            channels,
            carray(scratch, (3, period)),
            carray(lanes, (2, period)),
            carray(sums, (2, channels)),
            carray(found, (2, channels)),
        )

    def normalise(x, residual, y, size, period, added, tile):
        normalised(
            carray(x, (size,)),
            carray(residual, (size if added else 0,)),
            carray(y, (size,)),
            carray(tile, (3, period)),
        )

    def collect(x, g, y, size, period, added, tile, scratch, lanes):
        collected(
            carray(x, (size,)),
            carray(g, (size,)),
            carray(y, (size if added else 0,)),
            carray(tile, (3, period)),
            carray(scratch, (2, period)),
            carray(lanes, (2, period)),
        )

    def give_back(x, g, y, dx, dr, size, period, added, tile):
        given_back(
            carray(x, (size,)),
            carray(g, (size,)),
            carray(y, (size if added else 0,)),
            carray(dx, (size,)),
            carray(dr, (size if added else 0,)),
            carray(tile, (5, period)),
        )

    return {"measure": measure, "normalise": normalise, "collect": collect, "give_back": give_back}


def _own_text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
