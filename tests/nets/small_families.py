"""Small networks made of torchvision's own blocks, one for each family, and zeros of every sort in them."""

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import convnext, densenet, efficientnet, mobilenetv2, mobilenetv3, regnet, resnet
from torchvision.models import vision_transformer as vit
from torchvision.ops.misc import Conv2dNormActivation
from zeroed_networks import disturb, zero_anything, zero_filters

from nets.measure import measure


class Classified(nn.Module):
    """A stem, blocks, a mean over the picture, a classifier; (batch, 2, height, width) -> (batch, 3)."""

    def __init__(self, width: int, last: int, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(2, width, 3, stride=1)
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(last, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1))


def basic() -> nn.Module:
    down = nn.Sequential(resnet.conv1x1(6, 8, 2), nn.BatchNorm2d(8))
    return Classified(6, 8, resnet.BasicBlock(6, 6), resnet.BasicBlock(6, 8, 2, down), resnet.BasicBlock(8, 8))


def resnext() -> nn.Module:
    """Bottlenecks of 8 channels in 4 groups of 2, and in 2 groups of 4."""
    down = nn.Sequential(resnet.conv1x1(6, 16), nn.BatchNorm2d(16))
    first = resnet.Bottleneck(6, 4, 1, down, groups=4, base_width=32)
    return Classified(6, 16, first, resnet.Bottleneck(16, 4, groups=2, base_width=64))


def mobile_v2() -> nn.Module:
    return Classified(
        4, 6, *(mobilenetv2.InvertedResidual(i, o, s, 3) for i, o, s in ((4, 4, 1), (4, 6, 2), (6, 6, 1)))
    )


def mobile_v3() -> nn.Module:
    def block(*settings: object) -> nn.Module:
        return mobilenetv3.InvertedResidual(mobilenetv3.InvertedResidualConfig(*settings), nn.BatchNorm2d)

    return Classified(
        8, 16, block(8, 3, 16, 8, True, "RE", 1, 1, 1.0), block(8, 5, 24, 16, True, "HS", 2, 1, 1.0),
        block(16, 3, 24, 16, False, "HS", 1, 2, 1.0),
    )  # fmt: skip


def efficient() -> nn.Module:
    def block(*settings: object) -> nn.Module:
        return efficientnet.MBConv(efficientnet.MBConvConfig(*settings, 1, 1.0, 1.0), 0.3, nn.BatchNorm2d)

    return Classified(8, 8, block(1, 3, 1, 8, 8), block(2, 3, 2, 8, 8), block(2, 5, 1, 8, 8))


def regular() -> nn.Module:
    block = partial(
        regnet.ResBottleneckBlock, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU, group_width=4, se_ratio=0.25
    )
    return Classified(6, 12, block(6, 12, 2), block(12, 12, 1))


def next_generation() -> nn.Module:
    """ConvNeXt with its own stem; layer normalisation over the channels keeps the streams, the hidden widths can go."""
    layers = [convnext.CNBlockConfig(6, 8, 1), convnext.CNBlockConfig(8, None, 2)]
    model = convnext.ConvNeXt(layers, stochastic_depth_prob=0.2, layer_scale=0.7, num_classes=3)
    model.features[0][0] = nn.Conv2d(2, 6, 2, 2)
    return model


def transformer() -> nn.Module:
    model = vit.VisionTransformer(10, 5, 2, num_heads=4, hidden_dim=16, mlp_dim=12, dropout=0.1, num_classes=3)
    model.conv_proj = nn.Conv2d(2, 16, 5, 5)
    return model


def dense() -> nn.Module:
    model = densenet.DenseNet(3, (2, 2), 6, bn_size=2, drop_rate=0.1, num_classes=3)
    model.features.conv0 = nn.Conv2d(2, 6, 3, padding=1, bias=False)
    return model


class UNet(nn.Module):
    """Down, up, and across: concatenation of tensors that are also read alone; the sizes are computed from the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Conv2dNormActivation(2, 6, 3)
        self.below = Conv2dNormActivation(6, 8, 3)
        self.joined = nn.Conv2d(14, 6, 3, padding=1)
        self.scale = nn.Parameter(torch.rand(6, 1, 1))
        self.last = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        height, width = x.shape[-2:]
        low = F.interpolate(self.below(F.max_pool2d(x, 2)), size=(height // 2 * 2, width // 2 * 2), mode="nearest")
        y = F.relu(self.joined(torch.cat([low, x], dim=1))) / 2 + self.scale * x
        return self.last(torch.cat((y, x), 1).mean(dim=(2, 3)))


class Tokens(nn.Module):
    """Linear layers on (batch, positions, features), a layer scale there, self-attention without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 5, 5)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 10)
        self.gamma = nn.Parameter(torch.rand(12))
        self.mix = nn.MultiheadAttention(10, 2, bias=False, batch_first=True)
        self.last = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.patches(x).flatten(2).transpose(1, 2))
        x = self.down(F.gelu(self.up(x)) * self.gamma)
        return self.last((x + self.mix(x, x, x, need_weights=False)[0]).mean(1))


FAMILIES = (
    *(basic, resnext, mobile_v2, mobile_v3, efficient, regular, next_generation, transformer, dense, UNet, Tokens),
)
SIZE = 10  # pixels


def images(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(3, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def make(family, seed: int) -> nn.Module:
    """In evaluation mode, with constants of order 1 everywhere: nothing vanishes because it was initialised to zero."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = disturb(family(), generator).eval()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
            module.bias.data.copy_(0.5 * torch.randn(module.bias.shape, generator=generator))
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_bias is not None:
            module.in_proj_bias.data.copy_(0.5 * torch.randn(module.in_proj_bias.shape, generator=generator))
            module.out_proj.bias.data.copy_(0.5 * torch.randn(module.out_proj.bias.shape, generator=generator))
        elif isinstance(module, nn.Linear):
            module.weight.data.copy_(torch.randn(module.weight.shape, generator=generator) / module.in_features**0.5)
    return model


def zero(model: nn.Module, seed: int, share: float, anything: bool = False) -> nn.Module:
    """Zero filters (shifts left alone), rows of linear layers with their bias, heads; with `anything` also scales, columns."""
    generator = torch.Generator().manual_seed(seed)
    zero_filters(model, share, generator)
    for module in [m for m in model.modules() if isinstance(m, nn.Linear)][:-1]:
        dead = torch.rand(module.weight.shape[0], generator=generator) < share
        if module.bias is not None and type(module) is nn.Linear:
            module.weight.data[dead], module.bias.data[dead] = 0, 0
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            dead = torch.rand(module.num_heads, generator=generator) < share
            module.in_proj_weight.data.view(3, module.num_heads, -1)[2, dead] = 0  # the value bias stays
    return zero_anything(model, generator) if anything else model


@torch.no_grad()
def farthest(model: nn.Module, smaller: nn.Module, dtype: torch.dtype = torch.float64) -> float:
    """Our own comparison, over max(1, largest logit), also on images that removal never saw, twice as large."""
    pairs = [(copy.deepcopy(model).eval()(x), smaller.eval()(x)) for x in (images(dtype), 2 * images(dtype, 7))]
    return max(float((one - two).abs().max()) / max(1.0, float(one.abs().max())) for one, two in pairs)


def count_macs(model: nn.Module) -> int:
    """For one image; torch counts the products of attention only on its slower path."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return measure(model, images(next(model.parameters()).dtype)).macs
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
