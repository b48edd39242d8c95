"""Wrong kernels are told from the right one: the text of the compiled loops, run by Python itself, with one thing changed."""

from pathlib import Path

import numpy as np
import pytest
import torch

import nets.fused.norm
from nets.fused.norm_programs import LANES, TILE

HOUSE = Path(nets.fused.norm.__file__).parent
CHANNELS, ROWS, PERIOD, SHARE, EPS = 4, 240, 8, 0.3, 1e-2

MUTANTS = {
    "the biased variance is remembered": ("count / (count - 1.0)", "1.0"),
    "running averages the wrong way round": (
        "share * new + (1.0 - share) * kept",
        "(1.0 - share) * new + share * kept",
    ),
    "the unbiased variance normalises": ("channels / len(x)\n\n", "channels / (len(x) - channels)\n\n"),
    "no eps": ("np.sqrt(found[1, c] + eps)", "np.sqrt(found[1, c])"),
    "stretches joined without their distance": ("around + apart * apart", "around + 0 * apart"),
    "the mean of the last stretch": ("(mean[c] * before + own * rows) / (before + rows)", "own"),
    "no second moment is moved": ("sums[1, c] - sums[0, c] * sums[0, c] / rows", "sums[1, c]"),
    "the rounding of the centre is lost": ("(np.float64(centre) - found[0, c]) * scale", "0.0"),
    "relu makes NaN zero": ("np.float32(0) if z < 0 else z", "z if z > 0 else np.float32(0)"),
    "no relu": ("np.float32(0) if z < 0 else z", "z"),
    "at zero all passes": ("np.float32(0) if z <= 0 else g", "np.float32(0) if z < 0 else g"),
    "the gradient is not masked": ("np.float32(0) if z <= 0 else g", "g"),
    "the residual's gradient is not masked": ("narrow(dz, x[j])", "narrow(wide(g[j]), x[j])"),
    "the mask forgets the residual": ("_passed(wide(y[j])", "_passed(wide(x[j]) - centre[j]"),
    "dx without the mean of dz": ("level = weight[c] * invstd * dbias / count - slope * left", "level = -slope * left"),
    "dx without the mean of dz xhat": ("slope = weight[c] * invstd * invstd * dweight / count", "slope = 0.0"),
    "dweight of x that is not normalised": ("(sums[1, c] - left * dbias) * invstd", "sums[1, c] - left * dbias"),
    "dx over one less": ("len(x) // channels\n    _lay_out", "len(x) // channels - 1\n    _lay_out"),
}


def kernels(old="", new=""):
    """forward and backward in plain Python, `old` replaced by `new`."""
    namespace = {"__name__": "plain"}
    changed = 0
    for name in ("norm_kernel.py", "norm_passes.py"):
        text = (HOUSE / name).read_text(encoding="utf-8")
        text = text.replace(
            'loops = njit(error_model="numpy", fastmath={"contract"})', "loops = lambda function: function"
        )
        text = text.replace("from nets.fused.norm_kernel import", "# what the kernel's text has defined:")
        changed += bool(old) and old in text
        exec(text.replace(old, new) if old else text, namespace)
        namespace |= {"wide": lambda word: word, "narrow": lambda number, like: number}
    assert changed == bool(old)
    return namespace["forward"], namespace["backward"]


def given():
    """Rows by channels: an ordinary channel, one that drifts, one far from zero, one whose z is exactly 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, CHANNELS)).astype(np.float32)
    x[:, 1] += np.linspace(-6, 6, ROWS)
    x[:, 2] = 3001.7 + 0.02 * x[:, 2]
    return x, rng.normal(size=x.shape).astype(np.float32), rng.normal(size=x.shape).astype(np.float32)


WEIGHT, BIAS = np.float32([0.7, -1.3, 1.9, 0.0]), np.float32([0.2, -0.4, 0.1, 0.0])
KEPT = (np.float32([1, 2, 3, 4]), np.float32([0.5, 0.6, 0.7, 0.8]))


def computed(old, new, added):
    forward, backward = kernels(old, new)
    x, residual, g = (a.reshape(-1) for a in given())
    residual[3::CHANNELS] = 0  # z of the last channel stays 0
    empty, y, found = np.zeros(0, np.float32), np.zeros_like(x), np.zeros((2, CHANNELS))
    mean, variance = (a.copy() for a in KEPT)
    scratch, lanes = np.zeros((TILE, PERIOD), np.float32), np.zeros((LANES, PERIOD))
    forward(x, residual if added else empty, y, WEIGHT, BIAS, EPS, found, SHARE, mean, variance, scratch, lanes)
    dx, dr, changes = np.zeros_like(x), np.zeros_like(x) if added else empty, np.zeros((2, CHANNELS), np.float32)
    answer = y if added else empty
    backward(x, g, answer, dx, dr, WEIGHT, BIAS, EPS, found, changes, scratch, lanes)
    return [y, mean, variance, dx, *changes, *([dr] if added else [])]


def truth(added):
    """By torch's own modules in float64."""
    x, residual, g = (torch.from_numpy(a).double() for a in given())
    residual[:, 3] = 0
    x.requires_grad_(), residual.requires_grad_()
    norm = torch.nn.BatchNorm1d(CHANNELS, eps=EPS, momentum=SHARE).double()
    with torch.no_grad():
        for tensor, value in zip(
            (norm.weight, norm.bias, norm.running_mean, norm.running_var), (WEIGHT, BIAS, *KEPT), strict=True
        ):
            tensor.copy_(torch.from_numpy(value))
    y = torch.relu(norm(x) + residual if added else norm(x))
    y.backward(g)
    found = [y.detach(), norm.running_mean, norm.running_var, x.grad, norm.weight.grad, norm.bias.grad]
    return [t.numpy().reshape(-1) for t in (*found, *([residual.grad] if added else []))]


def is_right(old="", new=""):
    for added in (False, True):
        for one, two in zip(computed(old, new, added), truth(added), strict=True):
            if not np.abs(one - two).max() <= 2e-5 * max(1.0, np.abs(two).max()):
                return False
    return True


def keeps_nan(old="", new=""):
    forward, _ = kernels(old, new)
    x = given()[0].reshape(-1)
    x[4] = np.nan
    y, found, empty = np.zeros_like(x), np.zeros((2, CHANNELS)), np.zeros(0, np.float32)
    scratch, lanes = np.zeros((TILE, PERIOD), np.float32), np.zeros((LANES, PERIOD))
    with np.errstate(invalid="ignore"):
        forward(x, empty, y, WEIGHT, BIAS, EPS, found, SHARE, empty, empty, scratch, lanes)
    y = y.reshape(-1, CHANNELS)
    return bool(np.isnan(y[:, 0]).all() and np.isfinite(y[:, 1:]).all())


def test_the_text_itself_is_right():
    assert is_right()
    assert keeps_nan()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_one_is_rejected(name):
    assert not (is_right(*MUTANTS[name]) and keeps_nan(*MUTANTS[name]))
