"""One layer as plain arrays: rows of inputs X, outputs Y = X W without the bias, one group of columns an input channel.

For a convolution a row is the patch that one output position sees (channel by channel, as in `weight.flatten(1)`); stride,
padding and dilation are the layer's own. Positions are drawn without replacement, image by image, by a seed.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from perspective.errors import InputError


@final
@dataclass(frozen=True, eq=False)
class LayerRows:
    """inputs (samples, d), targets (samples, outputs), groups (d,) the input channel of each column, weights (d, outputs)
    as trained; all float64. samples is how many positions they stand for (`reduce_rows` makes fewer rows of them)."""

    inputs: NDArray[np.float64]
    targets: NDArray[np.float64]
    groups: NDArray[np.int64]
    weights: NDArray[np.float64]
    samples: int


def layer_rows(module: nn.Module, rows: NDArray[np.float64], channels: int | None = None) -> LayerRows:
    """The arrays of a layer from the patches (samples, d) that `sample_rows` drew.

    channels: input channels, for a Linear layer behind a flattening (each channel owns d / channels consecutive columns).
    """
    weight = _weight(module)
    W = weight.detach().double().cpu().flatten(1).T.numpy()
    if rows.ndim != 2 or rows.shape[1] != len(W):
        raise InputError(
            f"the rows have shape {rows.shape}, the layer reads {len(W)} numbers; sample them from its inputs"
        )
    count = weight.shape[1] if channels is None else channels
    if len(W) % count:
        raise InputError(
            f"{len(W)} inputs are not a whole number for each of {count} channels; give the layer's channels"
        )
    groups = np.repeat(np.arange(count), len(W) // count)
    return LayerRows(rows, rows @ W, groups, W, len(rows))


def sample_rows(
    module: nn.Module, inputs: Tensor, positions: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Patches (samples, d) float64 at `positions` output positions of each input (all of them where there are fewer).

    Conv2d: inputs (batch, channels, height, width). Linear: (batch, features) one row each, or (batch, positions ..., features).
    InputError for any other layer, grouped convolutions, and inputs that do not fit or are not finite.
    """
    if positions < 1:
        raise InputError(f"positions is {positions}; it must be at least 1")
    _weight(module)
    inputs = inputs.detach().double().cpu()
    if not torch.isfinite(inputs).all():
        raise InputError("the layer's inputs contain NaN or infinite values; check the images and the weights")
    if isinstance(module, nn.Conv2d):
        return _patches(module, inputs, positions, generator)
    if inputs.ndim < 2 or inputs.shape[-1] != module.in_features:
        raise InputError(f"a Linear layer of {module.in_features} features does not read {tuple(inputs.shape)}")
    inputs = inputs.unsqueeze(1) if inputs.ndim == 2 else inputs.flatten(1, -2)
    chosen = torch.from_numpy(_draw(len(inputs), inputs.shape[1], positions, generator))
    return inputs[torch.arange(len(inputs))[:, None], chosen].flatten(0, 1).numpy()


def reduce_rows(rows: LayerRows) -> LayerRows:
    """At most d + 1 rows with the same loss for every W, output by output, by one QR factorisation.

    X = Q R, T = Q'Y:  ||X W - Y||^2 = ||R W - T||^2 + ||Y - Q T||^2; the last term, which no W changes, is carried by one
    more row of zero inputs whose targets are the norms of the columns of Y - Q T.
    """
    X, Y = rows.inputs, rows.targets
    if len(X) <= X.shape[1] + 1:
        return rows
    Q, R = np.linalg.qr(X)
    T = Q.T @ Y
    rest = np.linalg.norm(Y - Q @ T, axis=0)
    inputs, targets = np.vstack([R, np.zeros((1, X.shape[1]))]), np.vstack([T, rest])
    return LayerRows(inputs, targets, rows.groups, rows.weights, rows.samples)


def _weight(module: nn.Module) -> Tensor:
    if isinstance(module, nn.Conv2d):
        if module.groups != 1:
            raise InputError(
                f"a convolution with {module.groups} groups ties its input channels to its outputs; leave it out"
            )
    elif not isinstance(module, nn.Linear):
        raise InputError(f"a {type(module).__name__} is no layer with input channels; give a Conv2d or a Linear")
    return module.weight


def _patches(module: nn.Conv2d, inputs: Tensor, positions: int, generator: np.random.Generator) -> NDArray[np.float64]:
    if inputs.ndim != 4 or inputs.shape[1] != module.in_channels:
        raise InputError(
            f"a convolution of {module.in_channels} channels does not read {tuple(inputs.shape)}; "
            "give (batch, channels, height, width)"
        )
    padded = F.pad(inputs, _padding(module), "constant" if module.padding_mode == "zeros" else module.padding_mode)
    sizes = []
    for axis in (0, 1):
        reach = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
        sizes.append((padded.shape[2 + axis] - reach) // module.stride[axis] + 1)
    if min(sizes) < 1:
        raise InputError(f"inputs of {tuple(inputs.shape[2:])} pixels are smaller than the kernel; give larger ones")
    chosen = torch.from_numpy(_draw(len(inputs), sizes[0] * sizes[1], positions, generator))
    corner = (chosen // sizes[1] * module.stride[0], chosen % sizes[1] * module.stride[1])
    steps = [torch.arange(module.kernel_size[axis]) * module.dilation[axis] for axis in (0, 1)]
    which = torch.arange(len(inputs))[:, None, None, None]
    found = padded[
        which, :, corner[0][:, :, None, None] + steps[0][:, None], corner[1][:, :, None, None] + steps[1][None, :]
    ]  # (batch, positions, kernel height, kernel width, channels)
    return found.permute(0, 1, 4, 2, 3).flatten(2).flatten(0, 1).contiguous().numpy()


def _padding(module: nn.Conv2d) -> list[int]:
    """(left, right, top, bottom) as F.pad takes it."""
    sides: list[int] = []
    for axis in (1, 0):
        if module.padding == "same":
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]
        elif module.padding == "valid":
            sides += [0, 0]
        else:
            sides += [int(module.padding[axis])] * 2
    return sides


def _draw(images: int, available: int, positions: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(images, min(positions, available)) different positions of each image; batch by batch the same as all at once."""
    order = np.argsort(generator.random((images, available)), axis=1, kind="stable")
    return np.sort(order[:, :positions], axis=1)
