"""Law: a saved network comes back with the same bits, and a file that was touched does not come back at all."""

import json
import os

import pytest
import torch
from torch import nn
from zeroed_networks import ODD, Plain, disturb, zero_filters

from nets.removal import remove_channels
from nets.resnet import resnet20, resnet32
from nets.saving import describe, load, rebuild, save_model
from nets.shrink.scatter import Scatter
from perspective.errors import InputError

INPUTS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def pruned(shortcut: str = "A", factory=resnet20) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = zero_filters(disturb(factory(width=4, shortcut=shortcut), generator), 0.4, generator)
    model.layer2[1].conv2.weight.data.zero_()
    return remove_channels(model, INPUTS)[0].eval()


def logits(model: nn.Module, inputs: torch.Tensor = INPUTS) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(inputs)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("factory", [resnet20, resnet32])
def test_dense_and_pruned_networks_come_back_bit_for_bit(tmp_path, shortcut, factory):
    for number, model in enumerate((factory(width=4, shortcut=shortcut), pruned(shortcut, factory))):
        save_model(model, tmp_path / str(number))
        again = load(tmp_path / str(number))
        assert type(again) is type(model)
        assert again.architecture == model.architecture
        assert not again.training
        assert repr(again) == repr(model.eval())
        assert torch.equal(logits(again), logits(model))
        flags = [p.requires_grad for p in model.parameters()]
        assert [p.requires_grad for p in again.parameters()] == flags


def test_other_precisions_layouts_and_a_second_removal_survive(tmp_path):
    model = pruned().double().to(memory_format=torch.channels_last)
    model.layer1[0].conv1.weight.data[0] = 0
    model, _ = remove_channels(model, INPUTS.double())
    for _ in range(2):  # the second time the folder is replaced
        save_model(model, tmp_path / "model")
        again = load(tmp_path / "model")
        assert torch.equal(logits(again, INPUTS.double()), logits(model, INPUTS.double()))
        assert again.layer1[0].conv2.weight.stride() == model.layer1[0].conv2.weight.stride()
        model = again
    assert sorted(os.listdir(tmp_path)) == ["model"]


@pytest.mark.parametrize("make", ODD)
def test_networks_of_the_users_own_need_an_untouched_one(tmp_path, make):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 2, 10, 10)
    smaller, _ = remove_channels(zero_filters(disturb(make(), generator), 0.5, generator), inputs)
    save_model(smaller, tmp_path / "model")
    fresh = make()
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    assert torch.equal(logits(load(tmp_path / "model", model=fresh), inputs), logits(smaller, inputs))
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    with pytest.raises(InputError, match="model=YourNetwork"):
        load(tmp_path / "model")
    with pytest.raises(InputError):
        load(tmp_path / "model", model=nn.Sequential(nn.Conv2d(1, 1, 1)))


def test_the_description_lists_just_the_edits_and_rebuilds_the_shape():
    assert describe(resnet20(width=4))["modules"] == {}
    model = pruned()
    description = json.loads(json.dumps(describe(model)))
    assert "layer2.1.conv2" in description["modules"]
    assert "linear" not in description["modules"] or model.linear.in_features < 16
    again = rebuild(description)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in again.state_dict().items()} == shapes


@pytest.fixture
def folder(tmp_path):
    save_model(pruned(), tmp_path / "model")
    return tmp_path / "model"


def test_touched_weights_are_refused(folder):
    path = folder / "weights.safetensors"
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for wrong in (data[:-1], data[:10], b"", bytes(flipped), data + b"0"):
        path.write_bytes(wrong)
        with pytest.raises(InputError, match="checksum"):
            load(folder)
    path.write_bytes(data + bytes(20_000_000))
    with pytest.raises(InputError, match="larger"):
        load(folder)
    path.unlink()
    with pytest.raises(InputError, match="missing"):
        load(folder)


def damage(name, value):
    def apply(manifest):
        *path, last = name.split("/")
        for key in path:
            manifest = manifest[key]
        manifest[last] = value

    return apply


@pytest.mark.parametrize(
    "change",
    [
        damage("format", 99),
        damage("architecture", None),
        damage("architecture/name", "os.system"),
        damage("architecture/arguments", {"width": 10**12}),
        damage("architecture/arguments", {"depth": 3}),
        damage("architecture/arguments", {"shortcut": "Z"}),
        damage("architecture/arguments/width", 8),
        damage("modules", [1]),
        damage("modules/layer9.0.conv1", {"kind": "Conv2d", "in": 1, "out": 1, "groups": 1, "bias": False}),
        damage("modules/..", {"kind": "Identity"}),
        damage("modules/layer1.0.conv1", {"kind": "Conv2d", "in": 10**9, "out": 2, "groups": 1, "bias": False}),
        damage("modules/layer1.0.conv1", {"kind": "Conv2d", "in": 2.5, "out": 2, "groups": 1, "bias": False}),
        damage("modules/layer1.0.conv1", {"kind": "Conv2d", "in": 4, "out": 2, "groups": 3, "bias": False}),
        damage("modules/layer1.0.conv1", {"kind": "Lambda"}),
        damage("modules/layer1.0.conv1", {"kind": "Constant", "out": -1}),
        damage("modules/layer1.0.conv1", {}),
        damage("modules/layer1.0.conv1", "Conv2d"),
        damage("modules/layer2.0.shortcut", {"kind": "Scatter", "in": 4, "out": 8, "constants": "x", "ndim": 4, "stride": 2}),
        damage("modules/layer1.0.conv1", {"kind": "Conv2d", "in": 1, "out": 1, "groups": 1, "bias": False}),
        damage("sha256", "0" * 64),
    ],
)  # fmt: skip
def test_touched_manifests_are_refused(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_unreadable_manifests_links_and_wrong_scatters_are_refused(folder, tmp_path):
    text = (folder / "manifest.json").read_text()
    for wrong in ("", text[:100], "[]", "[" * 100_000, "1"):
        (folder / "manifest.json").write_text(wrong)
        with pytest.raises(InputError):
            load(folder)
    (folder / "manifest.json").unlink()
    (tmp_path / "outside.json").write_text(text)
    (folder / "manifest.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(InputError, match="link"):
        load(folder)
    model = pruned()
    next(module for module in model.modules() if isinstance(module, Scatter)).index[0] = 10**6
    save_model(model, tmp_path / "wrong")
    with pytest.raises(InputError, match="out of range"):
        load(tmp_path / "wrong")


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    model = resnet20(width=4)
    model.layer1[0].conv1 = nn.Conv2d(4, 4, 5, padding=2, bias=False)
    with pytest.raises(InputError, match="more than removing channels"):
        save_model(model, tmp_path / "model")
    model = resnet20(width=4)
    model.architecture = {"name": "mine", "arguments": {}}
    with pytest.raises(InputError, match="unknown architecture"):
        save_model(model, tmp_path / "model")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="other files"):
        save_model(Plain(), tmp_path / "precious")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        save_model(Plain(), tmp_path / "file")
    with pytest.raises(InputError):
        save_model(Plain(), tmp_path / "file" / "below")
    assert sorted(os.listdir(tmp_path)) == ["file", "precious"]
