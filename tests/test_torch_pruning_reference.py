"""Law: the reference prunes by Torch-Pruning's own choice, within the budget, and its network is the masked one's equal."""

import copy
import json

import pytest
import torch

from benchmarks.torch_pruning_reference import choose_channels, lay_out, prune_by_reference, run_cell
from nets.budget import zero_channels
from nets.gauge import Budget
from nets.groups import channel_groups
from nets.measure import measure
from nets.resnet import resnet20
from perspective import InputError

pytest.importorskip("torch_pruning")
EXAMPLE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(1)
    return resnet20(in_channels=1, width=4).eval()


def test_the_small_network_answers_like_the_masked_one_within_the_budget():
    model = network()
    before = copy.deepcopy(model.state_dict())
    taken, theirs = choose_channels(model, EXAMPLE, Budget("macs", 0.5), 0.15)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert {name.rpartition(".")[2] for name, _ in taken} == {"conv1"}
    assert all(name.startswith("layer") for name, _ in taken)
    assert len(set(taken)) == len(taken)
    masked = copy.deepcopy(model)
    zero_channels(channel_groups(masked, EXAMPLE), taken)
    assert torch.allclose(masked(EXAMPLE), theirs.eval()(EXAMPLE), atol=1e-4)
    ours, difference = prune_by_reference(model, EXAMPLE, Budget("macs", 0.5), 0.15)
    assert difference <= 1e-4
    share = measure(ours, EXAMPLE).macs / measure(model, EXAMPLE).macs
    assert 0.4 < share <= 0.5
    assert min(module.out_channels for module in ours.modules() if isinstance(module, torch.nn.Conv2d)) >= 1


def test_channels_made_small_go_first():
    """A channel whose filter, and all that reads it, is a hundred times smaller is among those taken."""
    model = network()
    with torch.no_grad():
        for block in (model.layer2[1], model.layer3[0]):
            block.conv1.weight[2] *= 0.01
            block.bn1.weight[2] *= 0.01
            block.conv2.weight[:, 2] *= 0.01
    taken, _ = choose_channels(model, EXAMPLE, Budget("macs", 0.9), 0.15)
    assert {("layer2.1.conv1", 2), ("layer3.0.conv1", 2)} <= set(taken)


def test_a_run_of_the_reference_keeps_to_the_comparisons_protocol(tmp_path):
    from nets.settings import new_settings
    from nets.train import train

    shared = {"net": "resnet20", "data": "digits", "width": 3, "batch_size": 512}
    train(new_settings("train", {**shared, "method": "none", "epochs": 1}), tmp_path / "dense")
    flags = {"dense": str(tmp_path / "dense"), "budget": "macs=0.5", "seed": 0, "lr": 0.7}  # a rate of one method's own
    cells = [{"settings": {**flags, "method": method}} for method in ("spr", "magnitude")]
    protocol = {"epochs": 1, "finetune_epochs": 1, "total_epochs": 2, "shared": shared}
    (tmp_path / "compare.json").write_text(json.dumps({"protocol": protocol, "cells": cells}))
    for sparse in (False, True):
        ((name, settings),) = lay_out(tmp_path, sparse).items()
        assert name == f"method-{settings.method}_budget-macs=0.5_seed-0"
        assert (settings.lr, settings.width, settings.finetune_epochs) == (0.02, 3, 1 if sparse else 2)
    result = run_cell(settings, tmp_path / name, sparse)
    phases = [json.loads(line)["phase"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert phases == ["regularise", "finetune"]
    assert result["budget"]["reached"] <= 0.5
    assert result["equality"]["max_abs_logit_difference"] <= 1e-4
    assert {layer["name"]: layer["before"] for layer in result["layers"]}["layer1.0.conv1"] == 3
    assert sum(layer["after"] for layer in result["layers"]) < sum(layer["before"] for layer in result["layers"])


@pytest.mark.parametrize("sparse", [False, True])
def test_the_reference_trains_at_the_rates_of_a_compared_method(tmp_path, sparse):
    """One schedule over both phases: the rates of the phase after removal go on where a method's own would."""
    from nets.settings import new_settings
    from nets.train import train

    shared = {"net": "resnet20", "data": "digits", "width": 3, "batch_size": 512, "lr": 0.05}
    shared["finetune_schedule"] = "continue"
    train(new_settings("train", {**shared, "method": "none", "epochs": 1}), tmp_path / "dense")
    common = {"dense": str(tmp_path / "dense"), "budget": "macs=0.5", "seed": 0}
    protocol = {"epochs": 1, "finetune_epochs": 2, "total_epochs": 3, "shared": shared}
    content = {"protocol": protocol, "cells": [{"settings": common}]}
    (tmp_path / "compare.json").write_text(json.dumps(content))
    ((name, settings),) = lay_out(tmp_path, sparse).items()
    run_cell(settings, tmp_path / name, sparse)
    method = {"method": "group-lasso" if sparse else "magnitude"}
    theirs = {**shared, **common, **method, "epochs": 1, "finetune_epochs": settings.finetune_epochs}
    train(new_settings("prune", theirs), tmp_path / "method")
    rates = [
        [json.loads(line)["lr"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in (name, "method")
    ]
    assert len(rates[0]) == 3
    assert rates[0] == rates[1]


def test_what_is_no_comparison_is_refused(tmp_path):
    (tmp_path / "compare.json").write_text("{}")
    with pytest.raises(InputError, match="no comparison of methods"):
        lay_out(tmp_path, False)
    with pytest.raises(InputError, match="CIFAR ResNets"):
        prune_by_reference(torch.nn.Conv2d(1, 2, 3), EXAMPLE, Budget("macs", 0.5), 0.15)
