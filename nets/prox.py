"""One proximal step on the groups of a layer, written three times: `loop` is the truth, `flat` is what training uses, and
`fused` costs what the memory costs.

    rows <- prox_{step * r}(rows),   one group a row

loop: the numpy prox of the bound regulariser, one group at a time in float64. flat: the torch text which the same
derivation writes (`Regularizer.source("torch")`), all groups of the layer at once, in the rows' own dtype; zeros
are exact; it looks at the device to end its searches, so a CUDA graph cannot capture it. fused: all groups of the network in
one pass, by the numba text of that derivation on the CPU (nets/fused/sweep.py), by its Triton text on a GPU, where nothing
waits for the device (nets/fused/triton_sweep.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from nets.fused.sweep import prox_fused
from nets.groups import ChannelGroups, Layer
from perspective.errors import InputError

Implementation = Literal["loop", "flat", "fused"]


@final
@dataclass(frozen=True)
class TorchRegulariser:
    """The torch twins of one bound regulariser; `w`, `v` are (..., n) tensors, one group a row."""

    prox: Callable[[Tensor, float], Tensor]
    value: Callable[[Tensor], Tensor]
    zero_threshold: Callable[[Tensor], Tensor]


def to_torch(regulariser: Any) -> TorchRegulariser:
    """The bound regulariser's torch functions with its parameters filled in."""
    functions = _compiled(regulariser.regularizer)
    parameters = dict(regulariser.parameters)
    return TorchRegulariser(
        prox=lambda v, step: functions["prox"](v, step, **parameters),
        value=lambda w: functions["value"](w, **parameters),
        zero_threshold=lambda v: functions["zero_threshold"](v, **parameters),
    )


def prox_rows(rows: Tensor, step: float, regulariser: Any, implementation: Implementation) -> Tensor:
    """prox of step * r for every row of (groups, n) `rows`; step > 0. Same dtype and device, exact zeros."""
    if implementation == "flat":
        return to_torch(regulariser).prox(rows, step)
    if implementation == "loop":
        truth = [regulariser.prox(row, step) for row in rows.detach().cpu().numpy().astype(np.float64)]
        return torch.from_numpy(np.stack(truth)).to(rows)
    if implementation == "fused":
        raise InputError("fused works on a network's own parameters; call prox_step, or choose flat for rows")
    raise InputError(f"unknown implementation {implementation!r}; choose loop (float64, one group at a time) or flat")


def prox_step(
    groups: ChannelGroups,
    steps: Mapping[str, float | Tensor],
    regularisers: Mapping[str, Any],
    implementation: Implementation,
) -> None:
    """Replace every group of the network by its prox; `steps` and `regularisers` by layer name.

    A step is a number, or (channels,) numbers, one a group: 0 leaves a group (a layer) alone, infinity makes it zero.
    flat takes all layers with groups of one size in one call: a few large tensor operations instead of many small ones.
    fused takes the whole network in one call; InputError where it cannot (see `nets.fused.sweep.prox_fused`).
    """
    if implementation == "fused":
        prox_fused(groups, steps, regularisers)
        return
    each = {
        layer.name: np.broadcast_to(np.asarray(steps[layer.name], np.float64), layer.channels)
        for layer in groups.layers
    }
    layers = [layer for layer in groups.layers if (each[layer.name] > 0).any()]
    if implementation == "loop":
        for layer in layers:
            rows, step = groups.rows(layer), each[layer.name]
            for k in np.flatnonzero(step > 0):
                if np.isinf(step[k]):
                    rows[k] = 0
                else:
                    rows[k] = prox_rows(rows[k : k + 1], float(step[k]), regularisers[layer.name], "loop")[0]
            groups.write(layer, rows)
        return
    if any(layer.parameters[0].is_cuda for layer in layers) and torch.cuda.is_current_stream_capturing():
        raise InputError("flat looks at the device to end its searches; in a CUDA graph choose implementation='fused'")
    buckets: dict[Any, list[Layer]] = {}
    for layer in layers:
        first = layer.parameters[0]
        key = (layer.n, first.dtype, first.device, regularisers[layer.name].regularizer)
        buckets.setdefault(key, []).append(layer)
    for (_, _, _, regularizer), bucket in buckets.items():
        rows = torch.cat([groups.rows(layer) for layer in bucket])
        counts = [layer.channels for layer in bucket]
        step = np.concatenate([each[layer.name] for layer in bucket])
        proper = (step > 0) & np.isfinite(step)
        columns = {"step": _column(np.where(proper, step, 1.0), rows)}
        for name in regularisers[bucket[0].name].parameters:
            values = [regularisers[layer.name].parameters[name] for layer in bucket]
            columns[name] = _column(np.repeat(np.array(values, dtype=np.float64), counts), rows)
        moved = _compiled(regularizer)["prox"](rows, columns.pop("step"), **columns)
        if not proper.all():
            moved = torch.where(_column(step == 0, rows), rows, moved)
            moved = torch.where(_column(np.isinf(step), rows), torch.zeros_like(rows), moved)
        for layer, part in zip(bucket, moved.split(counts), strict=True):
            groups.write(layer, part)


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    """(rows, 1) on `like`'s device; numbers stay in float64 until they meet the rows."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device=like.device)[:, None]


@lru_cache(maxsize=32)
def _compiled(regularizer: Any) -> dict[str, Any]:
    """Run the text that our own derivation wrote; it holds formulas only, and nothing from outside ever enters it."""
    namespace: dict[str, Any] = {"__name__": "perspective_torch_source"}
    exec(compile(regularizer.source("torch"), "<derived torch source>", "exec"), namespace)
    return namespace
