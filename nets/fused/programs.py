"""The two compiled programs of the fused prox, by dtype: the sweep over memory, and the prox of one derived regulariser.

Both come from `nets.fused.machine_code`: from disk where they were compiled before, else numba is asked.
"""

import ctypes
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from nets.fused.machine_code import call, find_code

BATCH = 4096  # numbers that are worth a call of the prox
# the sweep's arguments in order: w a whole number, f a float64; an address of i int64, d float64, r the weights' kind
ARGUMENTS = {
    **{
        "pieces": "i",
        "n_pieces": "w",
        "runs": "i",
        "n_runs": "w",
        "segments": "i",
        "n_segments": "w",
        "positions": "i",
    },
    **{"n_positions": "w", "numels": "i", "n_tensors": "w", "n_layers": "w", "n_parameters": "w", "n_units": "w"},
    **{
        "prox": "w",
        "theta": "d",
        "tolerance": "f",
        "squares": "d",
        "scratch": "r",
        "long": "w",
        "kind": "w",
        "addresses": "i",
    },
    **{"rules": "r", "n_rules": "w", "steps": "d", "own": "i", "starts": "d", "n_starts": "w", "out": "d", "wide": "w"},
}


@lru_cache(maxsize=64)
def prox_address(regularizer: Any, real: str) -> int:
    """The C address of `prox_rows`, for rows of `real` ("float32", "float64"), as `nets.fused.kernel` calls it."""
    text = regularizer.source("numba")

    def build() -> tuple[Any, Any]:
        from numba import carray, types

        # what our own derivation wrote: formulas only, and nothing from outside ever enters it
        namespace: dict[str, Any] = {"__name__": "perspective_numba_source"}
        exec(compile(text, "<derived numba source>", "exec"), namespace)
        prox_rows, parameters = namespace["prox_rows"], max(1, len(regularizer.block.parameters))

        def rows(x, count, n, squares, known, steps, apart, starts, begun, tolerance, theta, worth, out, wide):
            prox_rows(
                carray(x, (count * n,)),
                count,
                n,
                carray(squares, (known,)),
                carray(steps, (count,)),
                apart,
                carray(starts, (begun,)),
                tolerance,
                carray(theta, (parameters,)),
                worth != 0,
                carray(out, (4 * count if wide else 4,)),
                wide,
            )

        number, whole, cells = types.float64, types.int64, types.CPointer(types.float64)
        mine = types.CPointer(getattr(types, real))
        kinds = (mine, whole, whole, cells, whole, cells, whole, cells, whole, number, cells, whole, cells, whole)
        return rows, types.void(*kinds)

    return find_code("\n".join((real, text, _own_text("programs.py"))), build)


@cache
def sweep(real: str) -> Callable[..., None]:
    """`nets.fused.kernel.sweep_runs` of numpy arrays of this dtype."""

    def build() -> tuple[Any, Any]:
        from numba import carray, types

        from nets.fused.kernel import sweep_runs

        def entry(
            pieces, n_pieces, runs, n_runs, segments, n_segments, positions, n_positions, numels, n_tensors, n_layers,
            n_parameters, n_units, prox, theta, tolerance, squares, scratch, long, kind, addresses, rules, n_rules, steps,
            own, starts, n_starts, out, wide,
        ):  # fmt: skip
            sweep_runs(
                carray(pieces, (n_pieces, 3)),
                carray(runs, (n_runs, 7)),
                carray(segments, (n_segments, 5)),
                carray(positions, (n_positions,)),
                kind,
                carray(addresses, (4, n_tensors)),
                carray(numels, (n_tensors,)),
                carray(rules, (n_tensors, n_rules)),
                carray(squares, (BATCH,)),
                carray(scratch, (5, long)),
                prox,
                carray(steps, (n_units,)),
                carray(own, (n_layers,)),
                carray(starts, (n_starts,)),
                tolerance,
                carray(theta, (n_layers, n_parameters)),
                carray(out, (4,)),
                wide,
            )

        mine = types.CPointer(getattr(types, real))
        kinds = {"i": types.CPointer(types.int64), "d": types.CPointer(types.float64), "r": mine}
        kinds |= {"w": types.int64, "f": types.float64}
        return entry, types.void(*(kinds[letter] for letter in ARGUMENTS.values()))

    text = "\n".join((real, *(_own_text(name) for name in ("kernel.py", "rules.py", "programs.py"))))
    pointers = {letter: ctypes.c_void_p for letter in "idr"}
    kinds = {**pointers, "w": ctypes.c_int64, "f": ctypes.c_double}
    return call(find_code(text, build), tuple(kinds[letter] for letter in ARGUMENTS.values()))


def _own_text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
