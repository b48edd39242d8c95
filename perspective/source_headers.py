"""What differs between the numpy and the torch text of a derived module: reductions, parameters, precision, errors."""

HEADERS = {
    "numpy": '''"""Projected perspective regulariser: $declaration. Needs numpy only.

Arrays w, z, v have shape (..., n): one group per row. step and the parameters $parameters are floats, or arrays of
shape (..., 1): one number per row. See the functions' docstrings; formulas are derived from the declaration above.
"""

import functools

import numpy as xp


def _parameter(x, like):
    return xp.asarray(x, dtype=like.dtype)


def _sum(x):
    return xp.sum(x, axis=-1, keepdims=True)


def _max(x):
    return xp.max(x, axis=-1, keepdims=True)


def _positive(x):
    return xp.maximum(x, 0)


def _length(x):
    """Euclidean norm of each row: plain sums of squares, and the scaled ones where those underflow or overflow."""
    square = xp.einsum("...k,...k->...", x, x)[..., None]
    rough = ~((square > xp.finfo(x.dtype).tiny / EPSILON(x)) & (square < xp.inf))[..., 0]
    size = xp.sqrt(square)
    if rough.any():
        size[rough] = _norm(x[rough], 2)
    return size


def quiet(function):
    """Overflow to inf is meant, answers stay right; integers are taken as float64, half precision computed in single."""

    @functools.wraps(function)
    def rounded(x, *step, **parameters):
        given = xp.asarray(x)
        wide = given.astype(xp.result_type(given.dtype, xp.float32), copy=False)
        with xp.errstate(all="ignore"):
            answer = function(wide, *step, **parameters)
        return answer.astype(given.dtype, copy=False) if given.dtype.kind == "f" else answer

    return rounded
''',
    "torch": '''"""Projected perspective regulariser: $declaration. Needs torch only.

Tensors w, z, v have shape (..., n): one group per row. step and the parameters $parameters are floats, or tensors of
shape (..., 1): one number per row. See the functions' docstrings; formulas are derived from the declaration above.
"""

import functools

import torch as xp


def quiet(function):
    """No gradients; half precision is computed in single precision and rounded once, at the end."""

    @functools.wraps(function)
    @xp.no_grad()
    def rounded(x, *step, **parameters):
        wide = x.float() if x.dtype in (xp.float16, xp.bfloat16) else x
        return function(wide, *step, **parameters).to(x.dtype)

    return rounded


def _parameter(x, like):
    return x.to(like) if isinstance(x, xp.Tensor) else like.new_full((), x)


def _sum(x):
    return xp.sum(x, dim=-1, keepdim=True)


def _max(x):
    return xp.amax(x, dim=-1, keepdim=True)


def _positive(x):
    return x.clamp(min=0)


def _length(x):
    return _norm(x, 2)

''',
}
