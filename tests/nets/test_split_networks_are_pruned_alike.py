"""Law: a network split over two processes (fully_shard) is pruned like the whole one, and the prox needs no communication."""

import functools
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from several_processes import run_two_ranks
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn import functional as F

from nets.groups import channel_groups
from nets.optimizer import Proximal
from perspective import InputError, declare, derive

REGULARISER = derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=0.3, M=1.2)
IMAGES = torch.randn(16, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 3


def network(dtype):
    """Five channels: three on the first process, two on the second."""
    torch.manual_seed(1)
    first = nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(5, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(first, second, nn.Flatten(), nn.Linear(32, 3)).to(dtype)


def optimizer_of(model):
    """With dearer channels, one channel's indicator fixed at one and one at zero."""
    groups = channel_groups(model, IMAGES.to(next(model.parameters()).dtype))
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    optimizer = Proximal(sgd, groups, REGULARISER, strength=44.0)
    prices = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, float("inf")], dtype=torch.float64)
    dearer = torch.tensor([1.0, 3.0, 1.0, 1.0, 3.0], dtype=torch.float64)
    optimizer.prices = {"0.0": dearer, "1.0": prices}
    return optimizer


def train(model, optimizer):
    """Both processes see all images, so the gradients are those of one."""
    model.train()
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(IMAGES.to(next(model.parameters()).dtype)), LABELS).backward()
        optimizer.step()


def refused(wrap):
    model = network(torch.float64)
    wrap(model)
    try:
        optimizer_of(model)
    except InputError as error:
        return str(error)


def counted(step, calls):
    with CommDebugMode() as seen:
        step()
    calls.append(seen.get_total_counts())


def run_split(rank, folder):
    distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    said = {}
    for name in ("float32", "float64"):
        model = network(getattr(torch, name))
        if name == "float32":
            fully_shard(model[0], mesh=mesh)
        fully_shard(model, mesh=mesh)
        optimizer = optimizer_of(model)
        calls = []
        optimizer.step = functools.partial(counted, optimizer.step, calls)
        train(model, optimizer)
        said[name] = {
            "communication": sum(calls),
            "penalty": optimizer.penalty(),
            "surviving": optimizer.groups.surviving(),
            "own": [len(p.to_local()) for p in model[0].parameters()],
        }
        whole = {name: p.full_tensor() for name, p in model.named_parameters()}
        zeroed = optimizer.groups.layers[0]
        rows = optimizer.groups.rows(zeroed)
        rows[1] = 0
        optimizer.groups.write(zeroed, rows)
        said[name]["written"] = torch.equal(rows, optimizer.groups.rows(zeroed))
        if rank == 0:
            save_file(whole, folder / f"{name}.safetensors")
    said["refused"] = refused(lambda model: fully_shard(model[0][0], mesh=mesh))
    print(json.dumps(said))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    ended = run_two_ranks(run_split, folder)
    assert ended.status == (0, 0), ended.err
    return folder, [json.loads(text) for text in ended.out]


@pytest.mark.parametrize(("name", "tolerance"), [("float32", 1e-6), ("float64", 1e-10)])
def test_zeros_and_weights_are_those_of_the_whole_network(split, name, tolerance):
    model = network(getattr(torch, name))
    optimizer = optimizer_of(model)
    train(model, optimizer)
    found = load_file(split[0] / f"{name}.safetensors")
    own = dict(model.named_parameters())
    assert found.keys() == own.keys()
    for key, tensor in own.items():
        assert torch.equal(tensor == 0, found[key] == 0)
        assert float((tensor.detach() - found[key]).abs().max()) <= tolerance, key
    dead = {layer.name: ~optimizer.groups.alive(layer) for layer in optimizer.groups.layers}
    assert all(0 < d.sum() < len(d) for d in dead.values())
    assert dead["1.0"][7]
    assert not dead["1.0"][3]
    for said in split[1]:
        assert said[name]["surviving"] == optimizer.groups.surviving()
        assert said[name]["penalty"] == pytest.approx(optimizer.penalty(), rel=1e-5)
        assert said[name]["written"]


def test_each_process_holds_some_channels_and_asks_nobody(split):
    for rank, said in enumerate(split[1]):
        for name in ("float32", "float64"):
            assert said[name]["own"] == [(3, 2)[rank]] * 3
            assert said[name]["communication"] == 0


def test_groups_that_lie_on_several_processes_are_refused(split):
    for said in split[1]:
        assert "split differently over the processes" in said["refused"]
        assert "fully_shard" in said["refused"]
