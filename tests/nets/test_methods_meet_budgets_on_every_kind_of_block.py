"""Every method meets its budget on residual additions and on depthwise convolutions, or says in one sentence why not."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_families import SIZE, basic, make, mobile_v2

import nets.description
import nets.networks
import nets.settings
import nets.train
import nets.training.result
from nets.budget import zero_channels
from nets.data import Dataset, Split
from nets.groups import channel_groups
from nets.measure import measure
from nets.methods import ALL
from nets.methods.masks import write_masks
from nets.saving import load
from nets.settings import new_settings
from nets.train import train
from perspective import InputError

METHODS = [kind.name for kind in ALL if kind.prunes]
REFUSED = {  # of all methods on both networks: what the sentence says
    ("chipnet", True): "leave --coupled out",
}


def factory(family):
    """The family as a network that has a name."""

    def made(num_classes=3, in_channels=2):
        model = family()
        model.architecture = {"name": family.__name__, "arguments": {}}
        return model

    made.__name__ = family.__name__
    return made


def split(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 2, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(count) % 3)


@pytest.fixture(autouse=True, scope="module")
def small_world():
    """The two networks have names, the data are a few random pictures, and no report is drawn."""
    known = tuple(factory(family) for family in NETS)
    data = Dataset("digits", split(32, 1), split(9, 2), split(9, 3), 3, 255.0, (0.5, 0.5), (0.25, 0.25), 1, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nets.networks, "ALL", known)
        patch.setattr(nets.description, "ALL", known)
        patch.setitem(nets.settings.CHOICES, "net", tuple(net.__name__ for net in known))
        patch.setattr(nets.train, "_data", lambda settings: data)
        patch.setattr(nets.training.result, "write_report", lambda out: None)
        yield


NETS = (basic, mobile_v2)


@pytest.mark.parametrize("coupled", [False, True], ids=["papers", "coupled"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", NETS, ids=lambda family: family.__name__)
def test_the_budget_is_met_or_the_method_says_why_not(family, method, coupled, tmp_path):
    dense = make(family, 0).float()
    save_file(dense.state_dict(), tmp_path / "dense.safetensors")
    example = torch.randn(2, 2, SIZE, SIZE)
    flags = {"net": family.__name__, "data": "digits", "dense": str(tmp_path / "dense.safetensors"), "method": method}
    flags |= {"epochs": 1, "finetune_epochs": 0, "batch_size": 16, "lr": 1e-3, "coupled": coupled, "layer_seconds": 1.0}
    if method == "masks":
        groups = channel_groups(make(family, 0).float(), example, coupled)
        zero_channels(groups, [(layer.name, k) for layer in groups.layers for k in range(3, layer.channels, 4)])
        write_masks(tmp_path / "masks.json", groups)
        flags["masks"] = str(tmp_path / "masks.json")
    run = tmp_path / "run"
    try:
        result = train(new_settings("prune", {**flags, "budget": "macs=0.7"}), run)
    except InputError as error:
        print("REFUSED", family.__name__, method, coupled, error)
        assert REFUSED.get((method, coupled), "nothing is refused here") in str(error)
        assert "\n" not in str(error)
        return
    smaller = load(run / "model")
    share = measure(smaller, example).macs / measure(dense, example).macs
    print("MET", family.__name__, method, coupled, share, result["equality"])
    assert share == result["budget"]["reached"] <= 0.7
    assert share > 0.5  # a channel of so small a network is a few percent
    assert math.isfinite(result["pruned"]["test_accuracy"])
    assert all(bool(tensor.isfinite().all()) for tensor in smaller.state_dict().values())
