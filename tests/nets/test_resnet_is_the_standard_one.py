"""The CIFAR ResNets have the published sizes and names, can be traced, and take other people's weights without a pickle."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import fx

from nets.data import load_data
from nets.networks import build
from nets.resnet import PadShortcut, ResNet, resnet20, resnet56
from nets.training.evaluate import accuracy
from nets.weights import load_weights
from perspective import InputError


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
    ],
)
def test_parameter_counts_of_the_option_a_networks(name, parameters):
    model = build(name, 10, 3, 16, "A")
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.architecture["name"] == name


def test_shapes_and_names():
    model = resnet20(num_classes=7, in_channels=1, width=4, shortcut="B")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    names = set(model.state_dict())
    assert {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer3.2.bn2.bias", "linear.bias"} <= names
    assert {"layer2.0.shortcut.0.weight", "layer3.0.shortcut.1.running_mean"} <= names


def test_option_a_subsamples_and_pads():
    x = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    y = PadShortcut(1, 2)(x)
    assert y.shape == (2, 6, 2, 2)
    assert torch.equal(y[:, 1:4], x[:, :, ::2, ::2])
    assert (y[:, [0, 4, 5]] == 0).all()


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_traced_network_is_the_network(shortcut):
    model = resnet20(width=4, shortcut=shortcut).eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fx.symbolic_trace(model)(x), model(x))


def test_nonsense_is_refused():
    with pytest.raises(InputError, match="resnet20, resnet32"):
        build("resnet21", 10, 3, 16, "A")
    with pytest.raises(InputError, match="6n"):
        ResNet(21, 10, 3, 16, "A")
    with pytest.raises(InputError, match="shortcut"):
        resnet20(shortcut="C")
    with pytest.raises(InputError, match="width"):
        resnet20(width=0)


@pytest.fixture
def trained():
    torch.manual_seed(5)
    model = resnet20(width=4)
    model.bn1.running_mean.normal_()
    return model


def test_weights_of_a_parallel_training_and_of_safetensors(trained, tmp_path):
    state = {f"module.{name}": tensor for name, tensor in trained.state_dict().items() if "num_batches" not in name}
    torch.save({"state_dict": state, "best": 91.0}, tmp_path / "a.th")
    save_file(trained.state_dict(), tmp_path / "b.safetensors")
    for name in ("a.th", "b.safetensors"):
        model = resnet20(width=4)
        load_weights(model, tmp_path / name)
        assert all(torch.equal(t, model.state_dict()[key]) for key, t in trained.state_dict().items())


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


def test_bad_weights_are_refused_with_a_sentence(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "good.th")
    content = (tmp_path / "good.th").read_bytes()
    (tmp_path / "cut.th").write_bytes(content[: len(content) // 2])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (tmp_path / "evil.th").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=2))
    torch.save([1, 2], tmp_path / "list.th")
    torch.save({**trained.state_dict(), "linear.bias": torch.full((10,), torch.nan)}, tmp_path / "nan.th")
    for name, match in {
        "absent.th": "no weights file",
        "cut.th": "truncated",
        "cut.safetensors": "truncated",
        "evil.th": "objects other than tensors",
        "list.th": "no state dict",
        "nan.th": "NaN",
    }.items():
        with pytest.raises(InputError, match=match):
            load_weights(resnet20(width=4), tmp_path / name)
    assert not Evil.ran
    with pytest.raises(InputError, match="missing"):
        load_weights(resnet56(width=4), tmp_path / "good.th")
    with pytest.raises(InputError, match="unknown"):
        load_weights(build("resnet20", 10, 3, 4, "B"), tmp_path / "good.th")
    with pytest.raises(InputError, match="shape"):
        load_weights(resnet20(width=8), tmp_path / "good.th")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(
    not (os.environ.get("PERSPECTIVE_DATA") and os.environ.get("PERSPECTIVE_WEIGHTS")),
    reason="PERSPECTIVE_DATA or PERSPECTIVE_WEIGHTS (folder with resnet20-12fca82f.th) names no folder",
)
def test_public_weights_have_their_published_accuracy():
    data = load_data("cifar10", Path(os.environ["PERSPECTIVE_DATA"]))
    model = resnet20()
    load_weights(model, Path(os.environ["PERSPECTIVE_WEIGHTS"]) / "resnet20-12fca82f.th")
    assert accuracy(model, data, data.test) == pytest.approx(91.73, abs=0.011)
