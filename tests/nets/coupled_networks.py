"""Small networks whose channels hang together: residual streams, gates, grouped and depthwise convolutions, concatenation."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.densenet import _DenseBlock
from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig
from torchvision.models.regnet import BottleneckTransform
from torchvision.models.vision_transformer import VisionTransformer
from torchvision.ops import Conv2dNormActivation

from nets.resnet import resnet20


class Mobile(nn.Module):
    """A stem, an expansion with a depthwise convolution and a gate, added back to the stem's output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(2, 8, 3, 2)
        config = InvertedResidualConfig(8, 3, 16, 8, use_se=True, activation="HS", stride=1, dilation=1, width_mult=1.0)
        self.body = InvertedResidual(config, partial(nn.BatchNorm2d))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.hardswish(self.body(self.stem(x))).mean((2, 3)))


class Dense(nn.Module):
    """A DenseNet block: every layer reads the concatenation of all that came before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.block = _DenseBlock(2, 4, bn_size=2, growth_rate=3, drop_rate=0.0)
        self.norm = nn.BatchNorm2d(10)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.block(self.stem(x)))).mean((2, 3)))


class Grouped(nn.Module):
    """RegNet's bottleneck: 1x1, 3x3 in three groups of four, gate, 1x1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(2, 12, 3)
        self.body = BottleneckTransform(12, 12, 1, nn.BatchNorm2d, nn.ReLU, 4, 1.0, 0.25)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(F.relu(x + self.body(x)).mean((2, 3)))


class Skips(nn.Module):
    """A U-Net in small: what was pooled is upsampled and put beside what was not; offsets 0 and 6."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.deep = nn.Conv2d(6, 5, 3, padding=1)
        self.beside = nn.Conv2d(6, 6, 1)
        self.joined = nn.BatchNorm2d(11)
        self.up = nn.Conv2d(11, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.down(x)))
        y = F.interpolate(F.relu(self.deep(F.max_pool2d(x, 2))), scale_factor=2.0)
        z = F.relu(self.joined(torch.cat([self.beside(x), y], dim=1)))
        return self.head(F.relu(self.up(z)).mean((2, 3)))


def transformer() -> nn.Module:
    """ViT with two blocks of two heads of four, hidden width 12; its classifier is not the zeros it begins with."""
    model = VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3
    )
    nn.init.normal_(model.heads.head.weight)
    return model


NETWORKS = {
    "resnet20 A": partial(resnet20, width=4, shortcut="A"),
    "resnet20 B": partial(resnet20, width=4, shortcut="B"),
    "mobile": Mobile,
    "dense": Dense,
    "grouped": Grouped,
    "skips": Skips,
    "vit": transformer,
}


def build(name: str) -> tuple[nn.Module, Tensor]:
    """(the network in float64 and evaluation mode, a batch of two for it)."""
    torch.manual_seed(0)
    model = NETWORKS[name]().double().eval()
    channels = 3 if name.startswith("resnet") or name == "vit" else 2
    return model, torch.randn(2, channels, 8, 8, dtype=torch.float64)
