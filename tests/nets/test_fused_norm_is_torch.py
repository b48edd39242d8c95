"""The compiled relu(batch_norm(x) + residual) is the formula in float64, rounded once, and torch's modules in all they leave."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nets.fused.norm import period_of
from nets.norm_relu import fused_norms, is_fusible, norm_relu

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DTYPES = [torch.float32, torch.bfloat16]


def drawn(shape, dtype=torch.float32, seed=0, at=0.0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = at + spread * torch.randn(shape, generator=generator)
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def norm_of(channels, seed=0, **options):
    norm = nn.BatchNorm2d(channels, **options)
    generator = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(channels, generator=generator))
        norm.bias.copy_(torch.randn(channels, generator=generator))
    return norm


def stepped(norm, x, residual, g, fused=True):
    """Everything one training step leaves: the answer, the gradients, the norm's buffers."""
    x = x.clone().requires_grad_()
    residual = None if residual is None else residual.clone().requires_grad_()
    norm.zero_grad()
    assert is_fusible(norm, x, residual)
    with fused_norms(fused):
        y = norm_relu(norm, x, residual)
    assert ("FusedNormRelu" in type(y.grad_fn).__name__) == fused
    y.backward(g)
    found = {"y": y.detach(), "dx": x.grad, "dweight": norm.weight.grad, "dbias": norm.bias.grad}
    if residual is not None:
        found["dresidual"] = residual.grad
    return found | {name: tensor.clone() for name, tensor in norm.named_buffers()}


def oracle(norm, x, residual, g):
    """The formula in float64, gradients by autograd; z before relu, and of each channel the size of dx's terms, last."""
    x = x.double().requires_grad_()
    weight, bias = (p.detach().double().requires_grad_() for p in (norm.weight, norm.bias))
    row = (1, -1, 1, 1)
    mean = x.mean((0, 2, 3))
    variance = (x - mean.view(row)).square().mean((0, 2, 3))
    z = (x - mean.view(row)) / (variance + norm.eps).sqrt().view(row) * weight.view(row) + bias.view(row)
    if residual is not None:
        residual = residual.double().requires_grad_()
        z = z + residual
    y = torch.where(z > 0, z, 0)
    y.backward(g.double())
    found = {"y": y.detach(), "dx": x.grad, "dweight": weight.grad, "dbias": bias.grad}
    if residual is not None:
        found["dresidual"] = residual.grad
    count = x.numel() // x.shape[1]
    found["running_mean"] = 0.1 * mean.detach()
    found["running_var"] = 0.9 + 0.1 * variance.detach() * count / (count - 1)
    size = (weight.abs() / (variance + norm.eps).sqrt()).detach() * g.abs().max()
    return found, z.detach(), size.view(row)


def rounding(value):
    """Half the distance of the neighbours in bfloat16 (8 bits of mantissa), of each number's magnitude."""
    return 2.0 ** (value.abs().clamp(min=2.0**-126).log2().floor() - 8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.tuples(
        *(st.integers(1, 9), st.sampled_from([1, 2, 3, 15, 16, 17, 31, 64]), st.integers(1, 6), st.integers(1, 6))
    ).filter(lambda s: s[0] * s[2] * s[3] > 1),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.sampled_from([(0.0, 1.0), (3.0, 2.0), (-50.0, 0.5), (0.0, 1e-3)]),
)
def test_any_shape_is_the_formula_in_float64(shape, dtype, added, place):
    x, g = drawn(shape, dtype, 0, *place), drawn(shape, dtype, 1)
    residual = drawn(shape, dtype, 2) if added else None
    norm = norm_of(shape[1])
    truth, z, size = oracle(norm, x, residual, g)
    found = stepped(norm, x, residual, g)
    assert found["y"].dtype == found["dx"].dtype == dtype
    assert found["num_batches_tracked"] == 1
    for name in ("running_mean", "running_var"):
        assert torch.allclose(found[name].double(), truth[name], rtol=1e-6, atol=1e-6 * place[1])
    assert (apart(found["y"], truth["y"]) <= allowed(truth["y"], dtype) + 2e-5).all()
    if (z.abs() < 1e-4).any():
        return  # the last bit decides what passes relu there
    assert (apart(found["dx"], truth["dx"]) <= allowed(truth["dx"], dtype) + 1e-5 * size).all()
    for name in ("dweight", "dbias"):
        scale = float(g.double().abs().sum((0, 2, 3)).max())
        assert apart(found[name], truth[name]).max() <= 1e-5 * scale
    if added:
        assert torch.equal(found["dresidual"].double(), truth["dresidual"])


def apart(found, truth):
    return (found.double() - truth).abs()


def allowed(truth, dtype):
    """One rounding, and a little for the float32 before it."""
    return 1.02 * rounding(truth) if dtype == torch.bfloat16 else 1e-5 * truth.abs()


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"momentum": 0.3}, {"track_running_stats": False}], ids=str
)
def test_three_steps_are_torchs(options, added):
    shape = (8, 33, 7, 9)
    one, two = norm_of(33, **options), norm_of(33, **options)
    for step in range(3):
        x, g = drawn(shape, seed=step, at=2.0 * step), drawn(shape, seed=10 + step)
        residual = drawn(shape, seed=20 + step) if added else None
        ours, torchs = stepped(one, x, residual, g), stepped(two, x, residual, g, fused=False)
        assert ours.keys() == torchs.keys()
        for name, tensor in torchs.items():
            assert ours[name].dtype == tensor.dtype
            assert (ours[name] - tensor).abs().max() <= 1e-5 * max(1.0, float(tensor.abs().max())), name
    assert list(one.state_dict()) == list(two.state_dict())


@pytest.mark.parametrize("added", [False, True])
def test_bfloat16_is_rounded_once_to_the_nearest(added):
    shape = (16, 31, 16, 16)
    x, g, residual = drawn(shape, torch.bfloat16, at=1.0), drawn(shape, torch.bfloat16, 1), None
    if added:
        residual = drawn(shape, torch.bfloat16, 2)
    norm = norm_of(31)
    truth, _, _ = oracle(norm, x, residual, g)
    found = stepped(norm, x, residual, g)
    for name in ("y", "dx"):
        assert (found[name] == truth[name].bfloat16()).double().mean() > 0.998, name


@pytest.mark.parametrize("channels", [15, 16, 600])
def test_statistics_far_from_zero_do_not_cancel(channels):
    for case in ("far", "first row", "first image"):
        x = drawn((40, channels, 32, 32) if channels < 99 else (4, channels, 9, 9))
        if case == "far":
            x += 1e4
        elif case == "first row":
            x[0, :, 0, 0] = 1e6
        else:
            x[0] += 1e4
        norm = nn.BatchNorm2d(channels, momentum=1.0)
        stepped(norm, x, None, x)
        mean, variance = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3))
        assert torch.allclose(norm.running_var.double(), variance, rtol=1e-5)
        assert ((norm.running_mean.double() - mean).abs() <= 1e-6 * (mean.abs() + variance.sqrt())).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("added", [False, True])
def test_what_is_no_number_travels_as_in_torch(dtype, bad, added):
    shape = (4, 17, 5, 5)
    for place in ("x", "residual", "g")[:: 1 if added else 2]:
        given = {
            "x": drawn(shape, dtype),
            "residual": drawn(shape, dtype, 1) if added else None,
            "g": drawn(shape, dtype, 2),
        }
        given[place][2, 3, 1, 1] = bad
        given[place][0, 5, 0, 0] = bad
        ours, torchs = stepped(norm_of(17), *given.values()), stepped(norm_of(17), *given.values(), fused=False)
        for name, tensor in torchs.items():
            assert torch.equal(ours[name].isnan(), tensor.isnan()), (place, name)
            assert torch.equal(ours[name].isinf(), tensor.isinf()), (place, name)


def test_at_zero_nothing_passes():
    norm = nn.BatchNorm2d(16)
    nn.init.zeros_(norm.weight)
    x, g = drawn((4, 16, 3, 3)), drawn((4, 16, 3, 3), seed=1)
    for residual in (None, torch.zeros_like(x)):
        found = stepped(norm, x, residual, g)
        assert all((found[name] == 0).all() for name in ("y", "dx", "dweight", "dbias"))


def test_one_number_a_channel_is_refused_as_torch_does():
    with fused_norms(), pytest.raises(ValueError, match="more than 1 value per channel"):
        norm_relu(nn.BatchNorm2d(3), drawn((1, 3, 1, 1)).requires_grad_())


def test_gradients_of_any_layout_and_again():
    shape = (4, 16, 6, 6)
    x, norm = drawn(shape, torch.bfloat16).requires_grad_(), norm_of(16)
    with fused_norms():
        y = norm_relu(norm, x)
    spread = drawn((4, 16, 1, 1), torch.bfloat16, 3).expand(shape)  # as a mean over the pixels gives it
    (one,) = torch.autograd.grad(y, x, spread, retain_graph=True)
    (two,) = torch.autograd.grad(y, x, spread.contiguous())
    assert torch.equal(one, two)
    norm.weight.data.add_(0.0)  # not seen by the version counter
    with fused_norms():
        y = norm_relu(norm, x)
    with torch.no_grad():
        norm.weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(spread)


def test_tiles_are_whole_rows_and_not_long():
    for channels in range(1, 700):
        period = period_of(channels)
        assert period % channels == 0
        assert period <= max(2048, channels)
        assert period % 16 == 0 or channels > 128
    assert np.all([period_of(c) >= 960 for c in (15, 16, 31, 32, 63, 64)])


def test_the_flag_changes_nothing_outside_its_context():
    x = drawn((4, 16, 6, 6)).requires_grad_()
    assert type(norm_relu(nn.BatchNorm2d(16), x).grad_fn).__name__ == "ReluBackward0"
    with fused_norms(), fused_norms(False):
        assert type(norm_relu(nn.BatchNorm2d(16), x).grad_fn).__name__ == "ReluBackward0"
    assert torch.equal(F.relu(norm_of(16)(x)), norm_relu(norm_of(16), x))
