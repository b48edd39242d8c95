"""Law: multiply-accumulates, parameters and channels are those counted by hand, and measuring leaves no trace."""

import pytest
import torch
from torch import nn

from nets.measure import measure
from nets.resnet import resnet20
from perspective.errors import InputError


def test_a_network_counted_by_hand():
    model = nn.Sequential(
        *(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.Conv2d(5, 5, 3, groups=5, bias=False), nn.Flatten(), nn.Linear(5 * 2 * 3, 7)),
    )
    size = measure(model, torch.randn(4, 3, 8, 10))
    assert size.macs == 5 * 3 * 9 * (4 * 5) + 5 * 9 * (2 * 3) + 30 * 7
    assert size.params == (5 * 27 + 5) + 10 + 45 + (30 * 7 + 7)
    assert size.channels == 10


def test_resnet20_has_its_published_size():
    size = measure(resnet20(), torch.randn(2, 3, 32, 32))
    assert (size.macs, size.params, size.channels) == (40_551_040, 269_722, 688)


def test_the_batch_does_not_count_and_nothing_is_left_behind():
    model = resnet20(width=4).train()
    model.bn1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert measure(model, torch.randn(1, 3, 8, 8)) == measure(model, (torch.randn(7, 3, 8, 8),))
    assert model.training
    assert not model.bn1.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 4, 8, 8), (2,)])
def test_inputs_that_do_not_fit_are_refused(shape):
    with pytest.raises(InputError, match="batch"):
        measure(resnet20(width=4), torch.randn(shape))


def test_attention_is_counted_in_full():
    tokens, width = 5, 8
    layer = torch.nn.TransformerEncoderLayer(width, 2, 16, batch_first=True).eval()
    projections, products, mlp = 4 * tokens * width**2, 2 * tokens**2 * width, 2 * tokens * width * 16
    assert measure(layer, torch.zeros(3, tokens, width)).macs == projections + products + mlp
    assert torch.backends.mha.get_fastpath_enabled()
