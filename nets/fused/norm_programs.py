"""The compiled programs of `nets/fused/norm_passes.py` by dtype, called with tensors' addresses."""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nets.fused.machine_code import call, find_code

WORDS = {torch.float32: "float32", torch.bfloat16: "uint16"}  # as numba takes them
TILE, LANES = 7, 4  # rows of scratch and of lanes
# arguments in order: w a whole number, n a float64; an address of t the tensor's words, f float32, d float64
ARGUMENTS = {"forward": "tttffndnffwwwwwfd", "backward": "tttttffndfwwwwfd"}
_FILES = ("norm_kernel.py", "norm_passes.py", "norm_programs.py")


@cache
def program(name: str, dtype: torch.dtype) -> Callable[..., None]:
    """`forward` or `backward`, for tensors of this dtype; for the arguments see below."""
    word, letters = WORDS[dtype], ARGUMENTS[name]

    def build() -> tuple[Any, Any]:
        from numba import types

        kinds = {"t": types.CPointer(getattr(types, word)), "f": types.CPointer(types.float32)}
        kinds |= {"d": types.CPointer(types.float64), "w": types.int64, "n": types.float64}
        entry = _forward() if name == "forward" else _backward()
        return entry, types.void(*(kinds[letter] for letter in letters))

    text = "\n".join((name, word, *((Path(__file__).parent / file).read_text(encoding="utf-8") for file in _FILES)))
    kinds = {"w": ctypes.c_int64, "n": ctypes.c_double}
    return call(find_code(text, build), tuple(kinds.get(letter, ctypes.c_void_p) for letter in letters))


def _forward() -> Callable[..., None]:
    """added: is there a residual? kept: are there running averages? What is not there has any address."""
    from numba import carray

    from nets.fused.norm_passes import forward

    def entry(
        x, residual, y, weight, bias, eps, found, share, running_mean, running_variance, added, kept, size, channels, period,
        scratch, lanes,
    ):  # fmt: skip
        forward(
            carray(x, (size,)),
            carray(residual, (size if added else 0,)),
            carray(y, (size,)),
            carray(weight, (channels,)),
            carray(bias, (channels,)),
            eps,
            carray(found, (2, channels)),
            share,
            carray(running_mean, (channels if kept else 0,)),
            carray(running_variance, (channels if kept else 0,)),
            carray(scratch, (TILE, period)),
            carray(lanes, (LANES, period)),
        )

    return entry


def _backward() -> Callable[..., None]:
    """added: was there a residual?"""
    from numba import carray

    from nets.fused.norm_passes import backward

    def entry(x, g, y, dx, dr, weight, bias, eps, found, changes, added, size, channels, period, scratch, lanes):
        backward(
            carray(x, (size,)),
            carray(g, (size,)),
            carray(y, (size if added else 0,)),
            carray(dx, (size,)),
            carray(dr, (size if added else 0,)),
            carray(weight, (channels,)),
            carray(bias, (channels,)),
            eps,
            carray(found, (2, channels)),
            carray(changes, (2, channels)),
            carray(scratch, (TILE, period)),
            carray(lanes, (LANES, period)),
        )

    return entry
