"""Hidden units, heads and odd networks: what has groups, what has none, and the sentence that says why."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from nets.groups import ChannelGroups, channel_groups
from nets.limits import Limits, select
from nets.removal import remove_channels
from nets.structures.slices import Layer, Span
from perspective import InputError


class Net(nn.Module):
    """Modules by name, and a forward as a function of them and the input."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.steps = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(self, x)


def network(forward, **modules):
    torch.manual_seed(0)
    return Net(forward, **modules).double().eval()


ROWS = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
IMAGES = torch.randn(2, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def shapes(groups):
    return {layer.name: (layer.channels, layer.n) for layer in groups.layers}


@pytest.mark.parametrize("coupled", [False, True])
def test_hidden_layers_of_a_plain_network_are_groups_and_its_classifier_is_not(coupled):
    model = network(
        lambda m, x: m.c(F.dropout(F.relu(m.norm(m.b(m.a(x).tanh()))), 0.5, m.training)),
        a=nn.Linear(5, 7),
        b=nn.Linear(7, 6, bias=False),
        norm=nn.BatchNorm1d(6),
        c=nn.Linear(6, 3),
    )
    groups = channel_groups(model, ROWS, coupled=coupled)
    assert shapes(groups) == {"a": (7, 5 + 1), "b": (6, 7 + 2)}
    assert groups["b"].bn == "norm"
    assert [name for name, _ in groups.skipped] == ["c"]
    assert "the network's outputs" in dict(groups.skipped)["c"]
    assert groups.left_whole() == [f"left whole: c: {dict(groups.skipped)['c']}"]
    assert select(groups, Limits(excluded=("a",))).left_whole() == groups.left_whole()
    rows = groups.rows(groups["b"])
    rows[1:4] = 0
    groups.write(groups["b"], rows)
    smaller, difference = remove_channels(model, ROWS)
    assert difference < 1e-12
    assert (smaller.b.out_features, smaller.norm.num_features, smaller.c.in_features) == (3, 3, 3)


@pytest.mark.parametrize(
    ("forward", "word"),
    [
        (lambda m, x: m.b(h := m.a(x)) + h.sum(), "sum"),
        (lambda m, x: (m.b(h := m.a(x).relu()), h), "network's outputs"),
        (lambda m, x: m.b(F.layer_norm(m.a(x), (5,))), "layer_norm"),
        (lambda m, x: m.b(F.relu(m.a(x)) + x), "add"),
        (lambda m, x: m.b(m.a(m.a(x))), "called twice"),
        (lambda m, x: m.b(m.a(x).softmax(1)), "softmax"),
        (lambda m, x: m.b(torch.as_tensor(m.a(x).numpy()).double()), "numpy"),
    ],
)
def test_a_unit_that_anything_else_reads_is_no_group(forward, word):
    model = network(
        forward, a=nn.Linear(5, 5), b=nn.Linear(5, 2), other=nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 1))
    )
    steps = model.steps
    model.steps = lambda m, x: (steps(m, x), m.other(x))
    groups = channel_groups(model, ROWS)
    assert [layer.name for layer in groups.layers] == ["other.0"]
    assert word in dict(groups.skipped)["a"]


def test_a_head_owns_its_rows_of_query_key_and_value():
    attention = nn.MultiheadAttention(6, 3, batch_first=True)
    model = network(lambda m, x: m.attention(x, x, x, need_weights=False)[0], attention=attention)
    groups = channel_groups(model, torch.randn(2, 4, 6, dtype=torch.float64))
    assert shapes(groups) == {"attention": (3, 3 * 2 * (6 + 1))}
    rows = groups.rows(groups["attention"])
    blocks = [attention.in_proj_weight[start : start + 2] for start in (2, 8, 14)]
    assert torch.equal(rows[1, :36], torch.cat(blocks).flatten())
    rows[1] = 0
    groups.write(groups["attention"], rows)
    assert torch.nonzero(attention.in_proj_weight.abs().sum(1) == 0).flatten().tolist() == [2, 3, 8, 9, 14, 15]
    smaller, difference = remove_channels(model, torch.randn(2, 4, 6, dtype=torch.float64))
    assert difference < 1e-12
    assert shapes(channel_groups(smaller, torch.randn(2, 4, 6, dtype=torch.float64))) == {"attention": (2, 42)}


def conv(inputs, outputs, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def shuffle(x):
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(
    ("forward", "word"),
    [
        (lambda m, x: m.b(m.a(x) + x), "network's inputs"),
        (lambda m, x: m.b(F.group_norm(m.a(x), 2)), "NativeGroupNorm"),
        (lambda m, x: m.b(shuffle(m.a(x))), "Transpose"),
        (lambda m, x: m.b(m.a(x)) + m.a(x).mean(), "twice"),
        (lambda m, x: m.b(m.a(x)) + m.b(m.a(x).detach()), "twice"),
        (lambda m, x: m.b(m.a(x).softmax(1)), "Softmax"),
        (lambda m, x: m.b((h := m.a(x)) * h.mean(1, keepdim=True)), "Mean"),
        (lambda m, x: m.b(m.a(x)[:, [1, 0]]), "Index"),
        (lambda m, x: m.b(torch.cat([(h := m.a(x))[:, 1:], h[:, :1]], 1) + h), "torch-pruning"),
        (lambda m, x: m.b(m.norm(m.a(x))), "norm (GroupNorm)"),
        (lambda m, x: (m.b(h := m.a(x)), h), "outputs"),
        (lambda m, x: m.b(m.a(x) * torch.arange(1.0, 3.0)[:, None, None]), "torch-pruning"),
        (lambda m, x: m.b(h := m.a(x)) + h.detach()[:, :1], "torch-pruning"),
    ],
)
def test_channels_that_cannot_die_alone_are_left_out_with_the_reason(forward, word):
    model = network(
        lambda m, x: (forward(m, x), m.other(x)),
        a=conv(2, 2),
        b=conv(2, 2),
        norm=nn.GroupNorm(1, 2),
        other=nn.Sequential(conv(2, 3), nn.ReLU(), conv(3, 1)),
    )
    groups = channel_groups(model, IMAGES, coupled=True)
    assert [layer.name for layer in groups.layers] == ["other.0"]
    assert word in dict(groups.skipped)["a"]


def test_shared_and_computed_weights_are_left_out():
    tied = network(lambda m, x: m.d(m.b(m.a(x)) + m.c(x)), a=conv(2, 2), b=conv(2, 2), c=conv(2, 2), d=conv(2, 1))
    tied.b.weight = tied.a.weight
    assert all("shares a parameter" in why for name, why in channel_groups_or_reasons(tied).items() if name in "abc")
    computed = network(lambda m, x: m.c(m.b(m.a(x))), a=weight_norm(conv(2, 3)), b=conv(3, 4), c=conv(4, 1))
    groups = channel_groups(computed, IMAGES, coupled=True)
    assert [layer.name for layer in groups.layers] == ["b"]
    assert "no weight of its own" in dict(groups.skipped)["a"]


def channel_groups_or_reasons(model):
    model.extra = nn.Sequential(conv(2, 3), conv(3, 1)).double()
    steps = model.steps
    model.steps = lambda m, x: (steps(m, x), m.extra(x))
    return dict(channel_groups(model, IMAGES, coupled=True).skipped)


def test_transposed_convolutions_lie_along_their_second_dimension():
    model = network(lambda m, x: m.b(F.relu(m.a(x))), a=nn.ConvTranspose2d(2, 3, 2), b=conv(3, 1))
    groups = channel_groups(model, IMAGES, coupled=True)
    assert shapes(groups) == {"a": (3, 2 * 4 + 1)}
    assert torch.equal(groups.rows(groups["a"])[1, :8], model.a.weight[:, 1].flatten())
    before = model(IMAGES).detach()
    groups.write(groups["a"], torch.zeros(3, 9, dtype=torch.float64))
    model.b.weight.data.fill_(7.0)  # nobody reads what is zero
    assert torch.allclose(model(IMAGES).detach(), torch.zeros_like(before) + model.b.bias.detach())


def test_a_multiplier_of_a_depthwise_convolution_is_tied_to_its_input():
    model = network(lambda m, x: m.c(m.b(m.a(x))), a=conv(2, 4), b=conv(4, 8, groups=4), c=conv(8, 1))
    groups = channel_groups(model, IMAGES, coupled=True)
    assert shapes(groups) == {"a": (4, (18 + 1) + 2 * (9 + 1))}
    rows = groups.rows(groups["a"])
    rows[2] = 0
    groups.write(groups["a"], rows)
    assert torch.nonzero(model.b.bias == 0).flatten().tolist() == [4, 5]


def test_layer_scale_belongs_to_the_channel_it_scales():
    model = network(
        lambda m, x: m.b(m.a(x) * m.scale), a=conv(2, 5), b=conv(5, 1), scale=nn.Parameter(torch.ones(5, 1, 1))
    )
    assert shapes(channel_groups(model, IMAGES, coupled=True)) == {"a": (5, 18 + 1 + 1)}


def test_what_cannot_be_followed_is_named():
    class Asking(nn.Module):
        def forward(self, x):
            return x * float(x.mean().numpy())

    model = network(lambda m, x: m.b(m.asking(m.a(x))), a=conv(2, 2), asking=Asking(), b=conv(2, 1))
    with pytest.raises(InputError, match=r"through asking \(Can't call numpy"):
        channel_groups(model, IMAGES, coupled=True)
    cut = network(lambda m, x: m.b(m.a(x).detach()).detach(), a=conv(2, 2), b=conv(2, 1))
    with pytest.raises(InputError, match="no channel to prune; a: autograd sees no way"):
        channel_groups(cut, IMAGES, coupled=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2))
def test_write_puts_back_what_rows_took_and_touches_nothing_else(seed, channels, slices, dim):
    generator = torch.Generator().manual_seed(seed)
    sizes = [2, 3, 4]
    sizes[dim] = channels * slices + 2
    parameter = nn.Parameter(torch.randn(sizes, generator=generator))
    index = torch.randperm(sizes[dim], generator=generator)[: channels * slices].reshape(channels, slices)
    span = Span(parameter, dim, index)
    layer = Layer("x", None, (span,), channels, ("x",))
    groups, before = ChannelGroups((layer,)), parameter.detach().clone()
    rows = groups.rows(layer)
    assert rows.shape == (channels, layer.n)
    assert torch.equal(rows[0], before.movedim(dim, 0)[index[0]].flatten())
    groups.write(layer, rows + 1)
    expected = before.clone()
    for place in index.flatten().tolist():
        expected.select(dim, place).add_(1)
    assert torch.equal(parameter.detach(), expected)
    groups.write(layer, rows * 0)
    assert not groups.alive(layer).any()
