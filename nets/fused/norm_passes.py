"""relu(batch_norm(x) [+ residual]) in training, compiled whole: the passes over memory with the few numbers of a channel between.

Source of the formulas: Ioffe, Szegedy, ICML 2015. With dz the gradient that passes relu, d = x - mean, scale = weight invstd:
    dbias = sum dz,   dweight = invstd sum dz d,   dx = scale (dz - dbias / n - d invstd dweight / n),   dresidual = dz
The loops measure d from the mean rounded to float32, the centre; what the rounding left goes into the other numbers of a channel,
which are computed in float64 and rounded once.
"""

import numpy as np

from nets.fused.norm_kernel import by_channel, collect, give_back, loops, measure, normalise


@loops
def _lay_out(tile, found, weight, bias, eps):
    """Rows 0, 1, 2 of a tile: centre, scale, shift."""
    channels = len(weight)
    for c in range(channels):
        centre = np.float32(found[0, c])
        scale = weight[c] / np.sqrt(found[1, c] + eps)
        shift = bias[c] + (np.float64(centre) - found[0, c]) * scale
        for at in range(c, tile.shape[1], channels):
            tile[0, at] = centre
            tile[1, at] = scale
            tile[2, at] = shift


@loops
def _remember(kept, new, share):
    """A running average, as torch keeps it."""
    return share * new + (1.0 - share) * kept


@loops
def forward(x, residual, y, weight, bias, eps, found, share, running_mean, running_variance, scratch, lanes):
    """y, found, and the running averages.

    x, residual, y  (rows * channels,); residual may be empty
    weight, bias, running_mean, running_variance  (channels,) float32; the last two may be empty
    found    (2, channels) float64: mean and biased variance; share: of the new in the running averages
    scratch  (7, period) float32, lanes (4, period) float64: overwritten
    """
    channels = len(weight)
    measure(x, scratch[:3], lanes[:2], lanes[2:, :channels], found)
    count = len(x) // channels
    for c in range(len(running_mean)):
        running_mean[c] = _remember(running_mean[c], found[0, c], share)
        running_variance[c] = _remember(running_variance[c], found[1, c] * (count / (count - 1.0)), share)
    tile = scratch[:3]
    _lay_out(tile, found, weight, bias, eps)
    normalise(x, residual, y, tile)


@loops
def backward(x, g, y, dx, dr, weight, bias, eps, found, changes, scratch, lanes):
    """dx, changes (2, channels) float32: dweight and dbias, and where y is not empty dr, the residual's gradient.

    y  what forward gave where there was a residual; else empty, as dr is. The rest as in forward; g: the gradient of y
    """
    channels = len(weight)
    tile, sums, count = scratch[:5], lanes[2:, :channels], len(x) // channels
    _lay_out(tile, found, weight, bias, eps)
    collect(x, g, y, dr, tile, scratch[5:], lanes[:2])
    by_channel(lanes[:2], channels, sums)
    for c in range(channels):
        left = found[0, c] - np.float64(np.float32(found[0, c]))
        invstd = 1.0 / np.sqrt(found[1, c] + eps)
        dbias = sums[0, c]
        dweight = (sums[1, c] - left * dbias) * invstd
        slope = weight[c] * invstd * invstd * dweight / count
        level = weight[c] * invstd * dbias / count - slope * left
        changes[0, c] = dweight
        changes[1, c] = dbias
        for at in range(c, tile.shape[1], channels):
            tile[3, at] = slope
            tile[4, at] = level
    give_back(x, g, dr, dx, tile)
