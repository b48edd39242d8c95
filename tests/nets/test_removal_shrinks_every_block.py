"""Law: what is zero in the blocks of the listed networks is physically gone, by the number counted by hand."""

from small_families import Tokens, UNet, count_macs, dense, farthest, images, make, mobile_v3, resnext, transformer
from torch import nn

from nets.removal import remove_channels
from nets.shrink.attention import Attention, ConstantAttention
from nets.shrink.scatter import Gathered


def test_a_zero_gate_kills_its_channels():
    """hardsigmoid is 0 below -3: channels multiplied by such a constant are zero whatever they held."""
    model = make(mobile_v3, 4).double()
    gate = model.blocks[0].block[2].fc2
    gate.weight.data[:5] = 0
    gate.bias.data[:5] = -9
    model.blocks[0].block[2].fc1.weight.data[:, :5] = 0  # which else would read them before the product
    before = model.blocks[0].block[0][0].out_channels
    smaller, _ = remove_channels(model, images())
    assert farthest(model, smaller) <= 1e-10
    assert smaller.blocks[0].block[3][0].in_channels == before - 5
    assert smaller.blocks[0].block[0][0].out_channels == before - 5


def test_groups_shrink_to_the_fullest_one_and_empty_ones_disappear():
    """8 channels in 4 groups of 2: group 0 loses an output, group 1 all of them, group 3 an input."""
    model = make(resnext, 5).double()
    conv = model.blocks[0].conv2
    before = count_macs(model)
    for k, output in ((0, 0), (1, 2), (1, 3)):
        assert output // 2 == k
        for tensor in (conv.weight, model.blocks[0].bn2.weight, model.blocks[0].bn2.bias):
            tensor.data[output] = 0
    conv.weight.data[6:8, 1] = 0
    smaller, _ = remove_channels(model, images())
    assert farthest(model, smaller) <= 1e-10
    new = smaller.blocks[0].conv2
    inner = next(m for m in new.modules() if isinstance(m, nn.Conv2d))
    assert (inner.groups, inner.in_channels, inner.out_channels) == (3, 6, 6)
    # one group of 2 x 2 x 9; in front of it one group's two inputs and another's one; behind it three outputs
    saved = 100 * (2 * 2 * 9 + 3 * 6 + 3 * 16)
    assert before - count_macs(smaller) == saved


def test_groups_alike_need_no_helper():
    model = make(resnext, 6).double()
    block = model.blocks[1]  # 2 groups of 4
    for layer, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
        for tensor in (layer.weight, norm.weight, norm.bias):
            tensor.data[[1, 6]] = 0
    smaller, _ = remove_channels(model, images())
    assert farthest(model, smaller) <= 1e-10
    assert not any(isinstance(m, Gathered) for m in smaller.modules())
    assert (smaller.blocks[1].conv2.in_channels, smaller.blocks[1].conv2.out_channels) == (6, 6)


def test_hidden_rows_of_a_transformer_are_gone_and_their_constants_folded():
    model = make(transformer, 7).double()
    mlp = model.encoder.layers.encoder_layer_0.mlp
    mlp[0].weight.data[:5] = 0  # the biases stay: GELU of them is a constant that the second layer reads
    before = count_macs(model)
    smaller, _ = remove_channels(model, images())
    assert farthest(model, smaller) <= 1e-10
    new = smaller.encoder.layers.encoder_layer_0.mlp
    assert (new[0].out_features, new[3].in_features) == (7, 7)
    assert before - count_macs(smaller) == 5 * 2 * 16 * 5  # 5 rows, two layers, width 16, 4 patches and the class token


def test_dead_heads_are_gone_and_no_head_at_all_is_a_constant():
    model = make(transformer, 8).double()
    first, second = (layer.self_attention for layer in model.encoder.layers)
    first.in_proj_weight.data.view(3, 4, 4, 16)[2, 1] = 0  # its value bias is averaged to itself
    first.out_proj.weight.data.view(16, 4, 4)[:, 3] = 0
    second.in_proj_weight.data.view(3, 4, 4, 16)[2] = 0
    before = count_macs(model)
    smaller, _ = remove_channels(model, images())
    assert farthest(model, smaller) <= 1e-10
    new, none = (layer.self_attention for layer in smaller.encoder.layers)
    assert isinstance(new, Attention)
    assert new.heads == 2
    assert isinstance(none, ConstantAttention)
    whole = 4 * 16 * 16 * 5 + 2 * 16 * 5 * 5  # projections, and scores and averages of 5 positions
    assert before - count_macs(smaller) == whole // 2 + whole
    assert {
        c.name.rpartition(".")[0][-7:]: (c.before, c.after) for c in smaller.removal.others if "attention" in c.name
    } == {
        "layer_0": (4, 2),
        "layer_1": (4, 0),
    }


def test_a_dead_channel_leaves_every_concatenation_it_is_in():
    model = make(dense, 9).double()
    layers = model.features.denseblock1
    layers.denselayer1.conv2.weight.data[1] = 0
    before = layers.denselayer2.norm1.num_features
    smaller, _ = remove_channels(model, images())
    assert farthest(model, smaller) <= 1e-10
    assert smaller.features.denseblock1.denselayer1.conv2.out_channels == 2
    assert smaller.features.denseblock1.denselayer2.norm1.num_features == before - 1
    assert smaller.features.transition1.norm.num_features == model.features.transition1.norm.num_features - 1


def test_a_layer_scale_shrinks_with_its_channels(tmp_path):
    model = make(UNet, 10).double()
    for layer, norm in ((model.first[0], model.first[1]), (model.joined, None)):
        layer.weight.data[2] = 0
        if norm is not None:
            norm.weight.data[2], norm.bias.data[2] = 0, 0
    model.joined.bias.data[2] = -1
    smaller, _ = remove_channels(model, images())
    assert farthest(model, smaller) <= 1e-10
    assert smaller.scale.shape == (5, 1, 1)
    tokens = make(Tokens, 11).double()
    tokens.gamma.data[[0, 4]] = 0
    smaller, _ = remove_channels(tokens, images())
    assert (smaller.gamma.shape, smaller.up.out_features, smaller.down.in_features) == ((10,), 10, 10)
