"""Every method meets its budget on residual additions and on depthwise convolutions, or says in one sentence why not."""

import math

import pytest
import torch
from safetensors.torch import save_file
from small_families import SIZE, basic, make, mobile_v2

import nets.budget
import nets.description
import nets.networks
import nets.removal
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
from perspective import CheckFailed, InputError

METHODS = [kind.name for kind in ALL if kind.prunes]
REFUSED = {"chipnet": "leave --coupled out", "layerwise": "leave --coupled out"}


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


NETS = (basic, mobile_v2)


@pytest.fixture(autouse=True, scope="module")
def small_world():
    """The two networks have names, the data are a few random pictures, and no report is drawn."""
    known = tuple(factory(family) for family in NETS)
    data = Dataset("digits", split(32, 1), split(9, 2), split(9, 3), 3, 255.0, (0.5, 0.5), (0.25, 0.25), 1, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nets.networks, "ALL", known)
        patch.setattr(nets.description, "ALL", known)
        patch.setitem(nets.settings.CHOICES, "net", tuple(net.__name__ for net in known))
        patch.setattr(nets.train, "load_images", lambda settings: data)
        patch.setattr(nets.budget, "LOOKS", 2)  # for channels to give back: looks are what takes the time
        patch.setattr(nets.training.result, "write_report", lambda out: None)
        yield


def prune(family, method, folder, **more):
    """(result, dense network) of `perspective prune --weights FILE`, one epoch, no fine-tuning."""
    dense = make(family, 0).float()
    save_file(dense.state_dict(), folder / "dense.safetensors")
    flags = {"net": family.__name__, "data": "digits", "dense": str(folder / "dense.safetensors"), "method": method}
    flags |= {
        "epochs": 1,
        "finetune_epochs": 0,
        "batch_size": 16,
        "lr": 1e-3,
        "layer_seconds": 1.0,
        "budget": "macs=0.7",
    }
    flags["implementation"] = "flat"  # which compiles nothing
    if method == "masks":
        groups = channel_groups(dense, torch.zeros(2, 2, SIZE, SIZE), more.get("coupled", False))
        masked = [(layer.name, k) for layer in groups.layers for k in range(3, layer.channels, 4)]
        zero_channels(groups, masked)
        write_masks(folder / "masks.json", groups)
        flags["masks"] = str(folder / "masks.json")
    return train(new_settings("prune", {**flags, **more}), folder / "run"), make(family, 0).float()


OWN_WAY = ("spr", "greg2", "chipnet", "lq", "layerwise", "masks")  # the others go theirs: only with -m slow
CELLS = [  # depthwise convolutions, and an addition
    pytest.param(mobile_v2, name, False, marks=() if name in OWN_WAY else pytest.mark.slow) for name in METHODS
]
CELLS += [pytest.param(basic, name, False, marks=pytest.mark.slow) for name in ("spr", "greg2", "masks")]
CELLS += [(basic, "layerwise", False), (basic, "greg1", True), (mobile_v2, "lq", True)]


@pytest.mark.parametrize(("family", "method", "coupled"), CELLS)
def test_the_budget_is_met(family, method, coupled, tmp_path):
    result, dense = prune(family, method, tmp_path, coupled=coupled)
    smaller, example = load(tmp_path / "run" / "model"), torch.zeros(2, 2, SIZE, SIZE)
    share = measure(smaller, example).macs / measure(dense, example).macs
    assert 0.5 < share == result["budget"]["reached"] <= 0.7  # one channel of so small a network is several percent
    assert math.isfinite(result["pruned"]["test_accuracy"])
    assert all(bool(tensor.isfinite().all()) for tensor in smaller.state_dict().values())


@pytest.mark.parametrize("method", REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence(method, tmp_path):
    with pytest.raises(InputError, match=REFUSED[method]) as caught:
        prune(basic, method, tmp_path, coupled=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_rounding_of_large_answers_is_told_from_a_wrong_removal(tmp_path, monkeypatch):
    """Where float32 shows a difference, float64 decides: none there is rounding, any other is a removal that went wrong."""
    real = nets.train.remove_channels
    monkeypatch.setattr(nets.train, "remove_channels", lambda model, example: (real(model, example)[0], 0.5))
    result, _ = prune(basic, "magnitude", tmp_path)
    assert result["equality"]["max_abs_logit_difference"] == 0.5
    monkeypatch.setattr(nets.train, "remove_channels", real)
    monkeypatch.setattr(nets.removal, "shrink_layers", wrong(nets.removal.shrink_layers))
    (tmp_path / "wrong").mkdir()
    with pytest.raises(CheckFailed, match="changed the logits"):
        prune(basic, "magnitude", tmp_path / "wrong")


def wrong(shrink):
    """A removal that forgets a thousandth of the classifier."""

    def shrunk(model, *others):
        after = shrink(model, *others)
        model.classifier.weight.data *= 0.999
        return after

    return shrunk
