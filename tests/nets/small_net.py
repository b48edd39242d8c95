"""A small network for tests of the optimizer."""

from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    """Two convolutions with groups of different size, and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 5, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(5)
        self.conv2 = nn.Conv2d(5, 4, 3)
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(self.conv2(F.relu(self.bn1(self.conv1(x)))).mean((2, 3)))
