"""Networks with zeros in them, for the tests of removal and saving: small, odd, and with constants that are not zero."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def disturb(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Random batch-normalisation statistics, scales and shifts, and biases: constants that are far from zero."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            if module.affine:
                module.weight.data.copy_(0.5 + torch.rand(module.num_features, generator=generator))
                module.bias.data.copy_(0.5 * torch.randn(module.num_features, generator=generator))
            if module.track_running_stats:
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.data.copy_(0.5 * torch.randn(module.bias.shape, generator=generator))
    return model


def zero_filters(model: nn.Module, share: float, generator: torch.Generator, pairs: bool = False) -> nn.Module:
    """Zero a random share of the filters of every convolution; with `pairs`, scale and shift of the next norm too."""
    modules = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    for module, following in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, nn.Conv2d):
            zero = torch.rand(module.out_channels, generator=generator) < share
            module.weight.data[zero] = 0
            if pairs and isinstance(following, nn.BatchNorm2d) and following.num_features == module.out_channels:
                following.weight.data[zero] = 0
                following.bias.data[zero] = 0
    return model


def zero_anything(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Zero random norms' scales (and some shifts), random columns of readers, and some biases."""

    def chance(share: float, shape: tuple[int, ...] = ()) -> Tensor:
        return torch.rand(shape, generator=generator) < share

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.affine and chance(0.3):
            zero = chance(0.5, (module.num_features,))
            module.weight.data[zero] = 0
            module.bias.data[zero & chance(0.5)] = 0
        elif isinstance(module, nn.Conv2d | nn.Linear) and chance(0.3):
            module.weight.data[:, chance(0.5, module.weight.shape[1:2])] = 0
            if module.bias is not None and chance(0.5):
                module.bias.data.zero_()
    return model


class Plain(nn.Module):
    """Biased convolutions without normalisation, padded and not, flattened into two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 5, 3)
        self.third = nn.Conv2d(5, 7, 3, padding="same", dilation=2)
        self.hidden = nn.Linear(7 * 3 * 3, 8)
        self.norm = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.first(x)), 2)
        x = F.leaky_relu(self.second(x), 0.1)
        x = torch.sigmoid(self.third(x))
        x = x.view(x.size(0), -1)
        return self.last(F.gelu(self.norm(self.hidden(x))))


class Inverted(nn.Module):
    """Expansion, depthwise convolution, linear bottleneck with a residual, as in MobileNetV2; padded average pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6(inplace=True))
        self.block = nn.Sequential(
            *(nn.Conv2d(4, 10, 1, bias=False), nn.BatchNorm2d(10), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(10, 10, 3, padding=1, groups=10, bias=False), nn.BatchNorm2d(10), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(10, 4, 1, bias=False), nn.BatchNorm2d(4)),
        )
        self.pool = nn.AvgPool2d(3, 2, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.pool(x + self.block(x))
        return self.head(x.mean((2, 3)))


class PreActivation(nn.Module):
    """Normalisation and ReLU before each convolution, inside the stream; a norm without scale, one without statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.norm1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect")
        self.norm2, self.conv2 = nn.BatchNorm2d(6, affine=False), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(6, track_running_stats=False)
        self.head = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv1(F.relu(self.norm1(x)))
        x = x + self.conv2(F.relu(self.norm2(y)))
        return self.head(F.relu(self.norm3(x))).flatten(1)


class Opaque(nn.Module):
    """Hard to follow: gating, concatenation, groups; not to be followed: a shared convolution, a written-out shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.gate = nn.Conv2d(8, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.7))
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x * torch.sigmoid(self.gate(x))
        x = F.relu(self.grouped(x)) * self.scale
        x = torch.cat([self.shared(F.relu(self.shared(x))), x], dim=1)
        return self.last(x.mean((2, 3)).reshape(-1, 16))


class Overwriting(nn.Module):
    """An in-place ReLU on a tensor that is read again afterwards: the second reader sees what the ReLU left."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.last = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 3, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        y = self.second(self.relu(x))
        y += x
        return self.last(y).mean((2, 3))


ODD = (Plain, Inverted, PreActivation, Opaque, Overwriting)
