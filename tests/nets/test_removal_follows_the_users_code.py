"""Law: what removal cannot follow keeps its channels or is refused by name; what it can follow goes on training."""

import pytest
import torch
from small_families import (
    farthest,
    images,
    make,
    regular,
    transformer,
    zero,
)
from torch import Tensor, nn

from nets.removal import remove_channels
from nets.shrink.attention import Attention
from perspective.errors import InputError


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_training_goes_on_after_removal(share):
    for family in (regular, transformer):
        model = zero(make(family, 12), 12, share)
        smaller, _ = remove_channels(model, images(torch.float32))
        smaller.train()(images(torch.float32)).square().sum().backward()
        assert any(p.grad is not None and bool((p.grad != 0).any()) for p in smaller.parameters())


def test_attention_with_removed_heads_refuses_what_it_cannot_do():
    module, x, y = Attention(8, 2, 4), torch.randn(1, 3, 8), torch.randn(1, 3, 8)
    with pytest.raises(InputError, match="one tensor and no mask"):
        module(x, y, y)
    with pytest.raises(InputError, match="one tensor and no mask"):
        module(x, x, x, attn_mask=torch.zeros(3, 3))
    with pytest.raises(InputError, match="at least one head"):
        Attention(8, 0, 4)


class Masked(nn.Module):
    """Attention that is given a mask, or whose weights are read: its heads stay."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.weights = weights
        self.mix = nn.MultiheadAttention(4, 2, batch_first=True)
        self.mask = torch.zeros(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        if self.weights:
            mixed, weights = self.mix(x, x, x)
            return mixed + weights.mean()
        return self.mix(x, x, x, attn_mask=self.mask, need_weights=False)[0]


@pytest.mark.parametrize("weights", [True, False])
def test_attention_with_a_mask_or_with_weights_that_are_read_is_left_alone(weights):
    model = Masked(weights).eval()
    model.mix.in_proj_weight.data.view(3, 2, 2, 4)[2, 0] = 0
    smaller, difference = remove_channels(model, torch.randn(2, 5, 4))
    assert isinstance(smaller.mix, nn.MultiheadAttention)
    assert difference == 0


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x.mean((2, 3)) if x.mean() > 0 else -x.mean((2, 3))


class Reshaping(nn.Module):
    """Reads shapes and computes with them, as a user's code does; the number of channels only where it is harmless."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(2, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        x = torch.relu(self.conv(x))
        torch._assert(x.dim() == 4, f"a picture, not {x.shape}")
        x = nn.functional.interpolate(x, size=(height * 2 - 1, width // 2 + 1))
        return self.last(x.mean(dim=(-2, -1))).view(batch, -1)


def test_control_flow_on_values_is_refused_by_name_and_computing_with_shapes_is_followed():
    with pytest.raises(InputError, match=r"through 1 \(.*control flow") as caught:
        remove_channels(nn.Sequential(nn.ReLU(), Branching()), images(torch.float32))
    assert "\n" not in str(caught.value)
    model = make(Reshaping, 13).double()
    model.conv.weight.data[:2] = 0
    smaller, _ = remove_channels(model, images())
    assert (smaller.conv.out_channels, smaller.last.in_features) == (4, 4)
    assert farthest(model, smaller) <= 1e-10


class SharedScale(nn.Module):
    """One parameter under two names, of which the forward pass reads one: it cannot be narrowed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.scale = self.same = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)) * self.scale)


def test_a_shared_parameter_keeps_its_channels():
    model = SharedScale().eval()
    model.first.weight.data[1], model.first.bias.data[1] = 0, 0
    for inputs in (torch.randn(2, 4), torch.randn(2, 5, 4)):
        smaller, difference = remove_channels(model, inputs)
        assert difference <= 1e-6
        assert smaller.scale.shape == (6,)
        assert smaller.scale is smaller.same
