"""LAPACK's Cholesky routines inside compiled code: scipy's own build, called without leaving numba.

Named symbols instead of raw pointers, so that numba may cache what calls them. Matrices are symmetric, float64 and
C-contiguous: LAPACK's lower triangle is numpy's upper one.
"""

import numpy as np
from llvmlite import binding
from numba import njit, types
from numba.extending import get_cython_function_address

for _name in ("dpotrf", "dpotri", "dpotrs", "spotrf", "spotri", "strtrs"):
    binding.add_symbol(f"perspective_{_name}", get_cython_function_address("scipy.linalg.cython_lapack", _name))

_CHAR, _INT, _REAL = types.CPointer(types.int8), types.CPointer(types.int32), types.CPointer(types.float64)
_SINGLE = types.CPointer(types.float32)
_potrf = types.ExternalFunction("perspective_dpotrf", types.void(_CHAR, _INT, _REAL, _INT, _INT))
_potri = types.ExternalFunction("perspective_dpotri", types.void(_CHAR, _INT, _REAL, _INT, _INT))
_potrs = types.ExternalFunction("perspective_dpotrs", types.void(_CHAR, _INT, _INT, _REAL, _INT, _REAL, _INT, _INT))
_single_potrf = types.ExternalFunction("perspective_spotrf", types.void(_CHAR, _INT, _SINGLE, _INT, _INT))
_single_potri = types.ExternalFunction("perspective_spotri", types.void(_CHAR, _INT, _SINGLE, _INT, _INT))
_single_trtrs = types.ExternalFunction(
    "perspective_strtrs",
    types.void(_CHAR, _CHAR, _CHAR, _INT, _INT, _SINGLE, _INT, _SINGLE, _INT, _INT),
)


@njit(cache=True, nogil=True)
def factor(a):
    """Cholesky factor of a (n, n) in place (a's upper triangle R, a = R'R); True where a is positive definite."""
    n = np.array([a.shape[0]], dtype=np.int32)
    info = np.zeros(1, dtype=np.int32)
    side = np.array([76], dtype=np.int8)  # "L"
    _potrf(side.ctypes, n.ctypes, a.ctypes, n.ctypes, info.ctypes)
    return info[0] == 0


@njit(cache=True, nogil=True)
def invert_factor(a):
    """Inverse (n, n), both triangles, in the place of what `factor` left in a; True where it exists."""
    n = np.array([a.shape[0]], dtype=np.int32)
    info = np.zeros(1, dtype=np.int32)
    side = np.array([76], dtype=np.int8)
    _potri(side.ctypes, n.ctypes, a.ctypes, n.ctypes, info.ctypes)
    for i in range(a.shape[0]):
        for j in range(i):
            a[i, j] = a[j, i]
    return info[0] == 0


@njit(cache=True, nogil=True)
def invert(a):
    """Inverse of a positive definite a (n, n) in place, both triangles; False, and a is lost, where it is not."""
    return factor(a) and invert_factor(a)


@njit(cache=True, nogil=True)
def solve_factored(a, rows):
    """rows (m, n) <- rows a^-1 in place, a (n, n) as `factor` left it."""
    n, m = np.array([a.shape[0]], dtype=np.int32), np.array([rows.shape[0]], dtype=np.int32)
    info = np.zeros(1, dtype=np.int32)
    side = np.array([76], dtype=np.int8)
    _potrs(side.ctypes, n.ctypes, m.ctypes, a.ctypes, n.ctypes, rows.ctypes, n.ctypes, info.ctypes)
    return info[0] == 0


@njit(cache=True, nogil=True)
def _finish_single(out):
    """A float32 factor (n, n) <- the inverse, both triangles."""
    n = np.array([out.shape[0]], dtype=np.int32)
    info = np.zeros(1, dtype=np.int32)
    side = np.array([76], dtype=np.int8)
    _single_potri(side.ctypes, n.ctypes, out.ctypes, n.ctypes, info.ctypes)
    for i in range(out.shape[0]):
        for j in range(i):
            out[i, j] = out[j, i]


@njit(cache=True, nogil=True)
def invert_factored(a):
    """Inverse (n, n), float32, both triangles, of what `factor` left in a: for directions, never for a bound."""
    out = a.astype(np.float32)
    _finish_single(out)
    return out


@njit(cache=True, nogil=True)
def press_roughly(a, rows):
    """rows (m, n) float32 <- rows R^-1 in place, a = R'R (n, n) as `factor` left it: rows a^-1 rows' is then a plain product.

    For directions, never for a bound.
    """
    n, m = np.array([a.shape[0]], dtype=np.int32), np.array([rows.shape[0]], dtype=np.int32)
    info = np.zeros(1, dtype=np.int32)
    side, plain = np.array([76], dtype=np.int8), np.array([78], dtype=np.int8)  # "L", "N"
    single = a.astype(np.float32)
    _single_trtrs(
        side.ctypes,
        plain.ctypes,
        plain.ctypes,
        n.ctypes,
        m.ctypes,
        single.ctypes,
        n.ctypes,
        rows.ctypes,
        n.ctypes,
        info.ctypes,
    )
    return info[0] == 0


@njit(cache=True, nogil=True)
def invert_roughly(a):
    """Inverse (n, n), float32, of a, which is kept; and whether single precision could do it."""
    n = np.array([a.shape[0]], dtype=np.int32)
    info = np.zeros(1, dtype=np.int32)
    side = np.array([76], dtype=np.int8)
    out = a.astype(np.float32)
    _single_potrf(side.ctypes, n.ctypes, out.ctypes, n.ctypes, info.ctypes)
    if info[0] != 0:
        return out, False
    _finish_single(out)
    return out, True
