"""Every named network has its published size and names, is rebuilt from its architecture, and takes other people's weights."""

import json

import pytest
import torch
from torch import fx, nn
from torchvision import models

from nets.description import describe, rebuild
from nets.networks import ALL, build
from nets.saving import load, save_model
from nets.weights import load_weights
from perspective import InputError

NAMES = [factory.__name__ for factory in ALL]
DEEPER = {"resnet32", "resnet44", "resnet56", "resnet110"}  # resnet20 stands for them
LARGE = {"vit_b_16", "convnext_tiny"}  # seconds to initialise
TORCHVISION = NAMES[NAMES.index("resnet18") :]
# of torchvision's page of models: parameters in millions, for 1000 classes
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_small": 2_542_856,
    "mobilenet_v3_large": 5_483_032,
    "efficientnet_b0": 5_288_548,
    "regnet_y_400mf": 4_344_144,
    "regnet_x_400mf": 5_495_976,
    "convnext_tiny": 28_589_128,
    "vit_b_16": 86_567_656,
}
SMALL = {"resnet18_cifar": 11_173_962, "resnet50_cifar": 23_520_842, "vgg16_bn": 14_724_042}


def on_meta(name, *arguments, **more):
    with torch.device("meta"):
        return build(name, *arguments, **more)


def test_names_are_different_and_complete():
    assert len(set(NAMES)) == len(NAMES)
    assert set(TORCHVISION) == set(PUBLISHED)
    assert {*SMALL, "resnet20", "resnet110"} <= set(NAMES)


@pytest.mark.parametrize(("name", "parameters"), [*PUBLISHED.items(), *SMALL.items()])
def test_parameters_are_the_published_ones(name, parameters):
    model = on_meta(name, 1000 if name in PUBLISHED else 10, 3)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_networks_are_torchvisions(name):
    """The same tensors in the same order, so the same draws: the initial numbers agree for the same seed."""
    if name in LARGE:
        with torch.device("meta"):
            theirs, ours = getattr(models, name)(num_classes=7), build(name, 7, 3)
        assert {k: v.shape for k, v in theirs.state_dict().items()} == {
            k: v.shape for k, v in ours.state_dict().items()
        }
        return
    made = []
    for make in (getattr(models, name), lambda **more: build(name, 7, 3)):
        torch.manual_seed(4)
        made.append(make(num_classes=7).eval())
    assert list(made[0].state_dict()) == list(made[1].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(m.state_dict().values() for m in made), strict=True))
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made[0](x), made[1](x))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DEEPER])
def test_the_architecture_is_json_and_rebuilds_the_network(name):
    model = on_meta(name, 6, 1, image_size=48)
    architecture = json.loads(json.dumps(model.architecture))
    assert architecture == model.architecture
    assert architecture["name"] == name
    assert all(type(value) in (int, str) for value in architecture["arguments"].values())
    assert describe(model)["modules"] == {}
    with torch.device("meta"):
        again = rebuild({"architecture": architecture, "modules": {}})
    assert again.architecture == architecture
    shapes = [{key: tensor.shape for key, tensor in m.state_dict().items()} for m in (model, again)]
    assert shapes[0] == shapes[1]
    assert again.eval()(torch.zeros(2, 1, 48, 48, device="meta")).shape == (2, 6)


@pytest.mark.parametrize("name", ["resnet18_cifar", "resnet50_cifar", "vgg16_bn"])
@pytest.mark.parametrize("size", [8, 32])
def test_small_networks_run_train_trace_and_are_saved(name, size, tmp_path):
    torch.manual_seed(0)
    model = build(name, 5, 1, width=4, image_size=size)
    x = torch.randn(3, 1, size, size, generator=torch.Generator().manual_seed(1))
    model(x).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    model.eval()
    assert torch.equal(fx.symbolic_trace(model)(x), model(x))
    save_model(model, tmp_path / "model")
    assert torch.equal(load(tmp_path / "model")(x), model(x))


def test_the_cifar_stem_is_the_imagenet_network_without_its_first_strides():
    """Tensor names and shapes are torchvision's but for conv1; with that one put in, so are the answers."""
    theirs = models.resnet18(num_classes=10).eval()
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    ours = build("resnet18_cifar", 10, 3).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), theirs(x))


def test_vgg_leaves_out_the_poolings_that_have_no_pixels_and_keeps_its_names():
    sizes = {8: 3, 15: 3, 16: 4, 32: 5, 224: 5}
    made = {size: on_meta("vgg16_bn", 10, 3, image_size=size) for size in sizes}
    assert {n: sum(isinstance(m, nn.MaxPool2d) for m in made[n].modules()) for n in sizes} == sizes
    assert all(list(m.state_dict()) == list(made[32].state_dict()) for m in made.values())
    with torch.device("meta"):
        theirs = models.vgg16_bn().state_dict()
    theirs = {key: value.shape for key, value in theirs.items() if key.startswith("features")}
    ours = {key: value.shape for key, value in made[32].state_dict().items() if key.startswith("features")}
    convolutions = {f"features.{i}.bias" for i, m in enumerate(made[32].features) if isinstance(m, nn.Conv2d)}
    assert ours == {key: shape for key, shape in theirs.items() if key not in convolutions}
    assert len(convolutions) == 13


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "regnet_x_400mf"])
def test_a_grey_network_answers_as_the_colour_network_on_three_equal_colours(name):
    made = []
    for channels in (1, 3):
        torch.manual_seed(2)
        made.append(build(name, 4, channels).eval())
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(made[0](x), made[1](x.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-5)


def test_the_seed_alone_decides_the_initial_numbers():
    def numbers(seed, **more):
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in build("vgg16_bn", 3, 1, width=2, **more).parameters()])

    assert torch.equal(numbers(1), numbers(1))
    assert torch.equal(numbers(1), numbers(1, image_size=32))  # looking at the image size draws nothing
    assert not torch.equal(numbers(1), numbers(2))


def test_published_files_are_taken(tmp_path):
    state = {key: torch.full_like(value, 0.5) for key, value in models.resnet18(num_classes=5).state_dict().items()}
    torch.save(state, tmp_path / "resnet18.pth")
    model = build("resnet18", 5, 3)
    load_weights(model, tmp_path / "resnet18.pth")
    assert all((p == 0.5).all() for p in model.parameters())


def test_the_older_names_of_the_published_vit_file_are_taken(tmp_path):
    class Block(nn.Module):
        """One block of vit_b_16, as its file of 2021 names it."""

        def __init__(self, old):
            super().__init__()
            self.mlp = nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Dropout(), nn.Linear(3, 2))
            if old:
                self.mlp = nn.ModuleDict({"linear_1": nn.Linear(2, 3), "linear_2": nn.Linear(3, 2)})

    ours = {k for k in on_meta("vit_b_16", 10, 3).state_dict() if ".mlp." in k}
    assert {key.partition(".mlp.")[2] for key in ours} == {"0.weight", "0.bias", "3.weight", "3.bias"}
    old, model = nn.ModuleDict({"layer": Block(True)}), nn.ModuleDict({"layer": Block(False)})
    torch.save(old.state_dict(), tmp_path / "vit.pth")
    load_weights(model, tmp_path / "vit.pth")
    assert torch.equal(model["layer"].mlp[0].weight, old["layer"].mlp["linear_1"].weight)
    assert torch.equal(model["layer"].mlp[3].bias, old["layer"].mlp["linear_2"].bias)


@pytest.mark.parametrize(
    ("arguments", "more", "match"),
    [
        (("resnet21", 10, 3), {}, "resnet20, resnet32.*vit_b_16"),
        (("resnet18", 10, 3), {"width": 16}, "leave --width out"),
        (("resnet18", 10, 3), {"shortcut": "B"}, "leave --shortcut out, or choose one of resnet20"),
        (("vgg16_bn", 10, 3), {"shortcut": "A"}, "leave --shortcut out"),
        (("vgg16_bn", 10, 3), {"width": 0}, "width is 0"),
        (("resnet18_cifar", 10, 3), {"width": 0}, "width is 0"),
        (("mobilenet_v2", 10, 4), {}, "3 channels .* or 1"),
        (("vit_b_16", 10, 3), {"image_size": 8}, "patches of 16x16"),
        (("convnext_tiny", 10, 3), {"image_size": 8}, "does not run on images of 8x8"),
    ],
)
def test_what_a_network_does_not_take_is_refused(arguments, more, match):
    with pytest.raises(InputError, match=match) as caught:
        on_meta(*arguments, **more)
    assert "\n" not in str(caught.value)
